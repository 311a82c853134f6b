// Command search is the module's side of bench/search/run: it searches the
// vectors of a file each time that it reads a line, and prints the seconds
// that it took. The neighbors of the last search go to a file.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/permafrost-ml/permafrost/internal/kernels"
)

func main() {
	log.SetFlags(0)
	dim, m, k := flag.Int("dim", 0, "values a vector"), flag.Int("queries", 0, "how many of the vectors are queries"), flag.Int("k", 0, "neighbors a query")
	flag.Parse()
	data, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	x := make([]float32, len(data)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	search := kernels.TopK{Candidates: kernels.Candidates{Rows: x, Dim: *dim}, Workers: 1}
	found := make([]kernels.Neighbor, *m**k)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		start := time.Now()
		search.Find(found, x[:*m**dim], *k, nil)
		fmt.Println(time.Since(start).Seconds())
	}
	var out []byte
	for _, n := range found {
		out = binary.LittleEndian.AppendUint32(out, uint32(n.Index))
	}
	if err := os.WriteFile(flag.Arg(1), out, 0o644); err != nil {
		log.Fatal(err)
	}
}
