// Command math measures matrix products of one thread: ours, OpenBLAS's and
// gonum's, in turn. It prints the GFLOPS of the best call of each.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

type shape struct {
	name    string
	m, n, k int
	transB  bool
}

func (s shape) ldb() int {
	if s.transB {
		return s.k
	}
	return s.n
}

func (s shape) gflops(seconds float64) float64 {
	return 2 * float64(s.m) * float64(s.n) * float64(s.k) / seconds / 1e9
}

// The shapes of training and encoding: m rows of k values by a k x n matrix;
// "nt" is by a transposed n x k one, as weights are stored.
var shapes = []shape{
	{"1024", 1024, 1024, 1024, false},
	{"512x384x384", 512, 384, 384, false},
	{"512x1536x384", 512, 1536, 384, false},
	{"4096x384x384", 4096, 384, 384, false},
	{"32x384x384", 32, 384, 384, false},
	{"512x384x384_nt", 512, 384, 384, true},
	{"32x384x384_nt", 32, 384, 384, true},
}

func main() {
	log.SetFlags(0)
	path := flag.String("openblas", "", "the shared library of OpenBLAS")
	seconds := flag.Float64("seconds", 2, "seconds a shape")
	alone := flag.Float64("alone", 0, "only print the products a second of one goroutine, for that long")
	products := flag.Bool("products", false, "only products of one goroutine")
	turn := flag.Float64("functions", 0, "only measure the functions named on standard input, for that many seconds each")
	flag.Parse()
	if *turn > 0 {
		if err := serve(os.Stdin, os.Stdout, *turn); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *alone > 0 {
		fmt.Println(rate(1, *alone))
		return
	}
	if err := openBLAS(*path); err != nil {
		log.Fatal(err)
	}
	for _, s := range shapes {
		a, b, c := random(s.m*s.k), random(s.k*s.n), make([]float32, s.m*s.n)
		op := blas.NoTrans
		if s.transB {
			op = blas.Trans
		}
		best := race(*seconds,
			func() { kernels.Gemm(false, s.transB, s.m, s.n, s.k, 1, a, s.k, b, s.ldb(), 0, c, s.n, 1) },
			func() { openGemm(s, a, b, c) })
		if s.name == "1024" {
			// gonum takes so long that it would leave the others few turns.
			best = append(best, race(0, func() {
				gonum.Implementation{}.Sgemm(blas.NoTrans, op, s.m, s.n, s.k, 1, a, s.k, b, s.ldb(), 0, c, s.n)
			})...)
		}
		fmt.Printf("sgemm_%s %.1f %.1f", s.name, s.gflops(best[0]), s.gflops(best[1]))
		if s.name == "1024" {
			fmt.Printf(" %.1f", s.gflops(best[2]))
		}
		fmt.Println()
	}
	if err := int8s(*seconds); err != nil {
		log.Fatal(err)
	}
	if *products {
		return
	}
	if err := pair(8, *seconds/4); err != nil {
		log.Fatal(err)
	}
}

// race calls the functions in turn for that many seconds and returns the
// least seconds of one call of each.
func race(seconds float64, fns ...func()) []float64 {
	best := make([]float64, len(fns))
	for begin, round := time.Now(), 0; round < 3 || time.Since(begin).Seconds() < seconds; round++ {
		for i, fn := range fns {
			start := time.Now()
			fn()
			if t := time.Since(start).Seconds(); round == 0 || t < best[i] {
				best[i] = t
			}
		}
	}
	return best
}

func random(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32()*2 - 1
	}
	return x
}
