package pipeline

import (
	"fmt"
	"maps"
	"slices"
)

// diffFields lists the fields in which two sets differ: "name: a -> b".
func diffFields(a, b map[string]string) []string {
	names := map[string]bool{}
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		va, oka := a[n]
		vb, okb := b[n]
		switch {
		case !oka:
			out = append(out, fmt.Sprintf("%s: (none) -> %s", n, vb))
		case !okb:
			out = append(out, fmt.Sprintf("%s: %s -> (none)", n, va))
		case va != vb:
			out = append(out, fmt.Sprintf("%s: %s -> %s", n, va, vb))
		}
	}
	return out
}
