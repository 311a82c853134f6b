// Command gen writes the assembly of package kernels. The package's
// generate directives run it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
)

var sets = map[string]func(){
	"gemm":    gemm,
	"gemm512": gemm512,
	"halves":  halves,
	"int8":    int8s,
	"maps":    maps,
	"reduces": reduces,
	"vnni":    vnni,
}

func main() {
	set := flag.String("set", "", "the functions to generate")
	flag.Parse()
	generate, ok := sets[*set]
	if !ok {
		fmt.Fprintf(os.Stderr, "gen: no set %q\n", *set)
		os.Exit(2)
	}
	build.ConstraintExpr("amd64,!purego")
	generate()
	pass.Compile = compile
	build.Generate()
}
