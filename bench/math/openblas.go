package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

typedef void (*sgemm_func)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
static sgemm_func sgemm;

// Opens the library with one thread; returns what went wrong.
static const char *open_blas(const char *path) {
	void *lib = dlopen(path, RTLD_NOW);
	if (!lib) return dlerror();
	sgemm = (sgemm_func)dlsym(lib, "cblas_sgemm");
	void (*threads)(int) = (void (*)(int))dlsym(lib, "openblas_set_num_threads");
	if (!sgemm || !threads) return "no cblas_sgemm or openblas_set_num_threads";
	threads(1);
	return 0;
}

static void call(int ta, int tb, int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc) {
	sgemm(101, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, ldc);
}
*/
import "C"

import (
	"errors"
	"unsafe"
)

// openBLAS loads OpenBLAS from a file, for one thread.
func openBLAS(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	if msg := C.open_blas(name); msg != nil {
		return errors.New(C.GoString(msg))
	}
	return nil
}

// openGemm is c = a·op(b) by OpenBLAS.
func openGemm(s shape, a, b, c []float32) {
	op := C.int(111)
	if s.transB {
		op = 112
	}
	C.call(111, op, C.int(s.m), C.int(s.n), C.int(s.k), (*C.float)(&a[0]), C.int(s.k), (*C.float)(&b[0]), C.int(s.ldb()), (*C.float)(&c[0]), C.int(s.n))
}
