//go:build amd64 && !purego

package kernels

// The functions of this file are given slices of one length that is not 0,
// and report whether they did it. AVX-512 would not be faster: these wait for
// memory, or for the units that divide.

func adamFast(a *AdamStep, w, g, m, v []float32) bool {
	if fast {
		step := [...]float32{a.Keep1, a.Add1, a.Keep2, a.Add2, a.Rate, a.Root, a.Eps}
		adamAVX2(len(w), &step[0], &w[0], &g[0], &m[0], &v[0])
	}
	return fast
}

func gatedAddFast(y, x, z, bias, gate []float32) bool {
	if fast {
		gatedAddAVX2(len(y), &x[0], &z[0], &bias[0], &gate[0], &y[0])
	}
	return fast
}

func gatedBackFast(dz, dy, z, gate []float32, sums, gateSums []float64) bool {
	if fast {
		gatedBackAVX2(len(dz), &dy[0], &z[0], &gate[0], &dz[0], &sums[0], &gateSums[0])
	}
	return fast
}
