//go:build cuda

package device

import (
	"fmt"

	"gorgonia.org/cu"
)

func count() (int, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return 0, fmt.Errorf("count CUDA devices: %w", err)
	}
	return n, nil
}
