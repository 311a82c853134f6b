// Package device is the seam to GPUs. The default build has none; a build
// with -tags cuda asks the CUDA driver through gorgonia.org/cu.
package device

import "errors"

// errNoCache is why no GPU can hold a cache yet, whatever cards there are.
var errNoCache = errors.New("caches in GPU memory are not part of this version")

// Usable returns nil if a GPU can hold a cache, else the reason why not.
func Usable() error {
	n, err := count()
	switch {
	case err != nil:
		return err
	case n == 0:
		return errors.New("the CUDA driver finds no card")
	}
	return errNoCache
}
