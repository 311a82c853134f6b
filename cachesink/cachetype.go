package cachesink

import "fmt"

// CacheType says where an encoder's embeddings are kept for replay.
type CacheType string

// The cache types, by Quaterion's names.
const (
	Auto CacheType = "auto" // in GPU memory if there is one and it fits, else in host memory
	CPU  CacheType = "cpu"  // in host memory
	GPU  CacheType = "gpu"  // in GPU memory
	None CacheType = "none" // nowhere: the encoder runs in every epoch
)

// ParseCacheType reads a cache type; the empty string is Auto.
func ParseCacheType(s string) (CacheType, error) {
	switch t := CacheType(s); t {
	case "":
		return Auto, nil
	case Auto, CPU, GPU, None:
		return t, nil
	}
	return "", fmt.Errorf("cache type %q is none of auto, cpu, gpu, none", s)
}
