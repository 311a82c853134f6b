//go:build !cuda

package device

import "errors"

func count() (int, error) { return 0, errors.New("this program was built without CUDA") }
