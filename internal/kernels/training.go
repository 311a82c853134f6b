package kernels

import "math"

//go:generate go -C gen run . -set training -out ../training_amd64.s -stubs ../training_amd64.go -pkg kernels

// The functions of this file are passes over memory in which training would
// else spend a third of its time. Every operation is rounded by itself, so
// that all paths give the same bits.

// AdamStep holds the numbers of one step of Adam.
type AdamStep struct {
	Keep1, Add1 float32 // beta1 and 1 - beta1
	Keep2, Add2 float32 // beta2 and 1 - beta2
	Rate        float32 // learning rate / (1 - beta1^t)
	Root        float32 // sqrt(1 - beta2^t)
	Eps         float32
}

// Apply updates the moments m and v by the gradient g and then the values w:
// w -= Rate·m / (sqrt(v)/Root + Eps). All have one length.
func (a *AdamStep) Apply(w, g, m, v []float32) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	if len(w) == 0 || adamFast(a, w, g, m, v) {
		return
	}
	for i, d := range g {
		m[i] = float32(a.Keep1*m[i]) + float32(a.Add1*d)
		v[i] = float32(a.Keep2*v[i]) + float32(float32(a.Add2*d)*d)
		w[i] -= float32(a.Rate*m[i]) / (float32(math.Sqrt(float64(v[i])))/a.Root + a.Eps)
	}
}

// GatedAdd adds bias to z and then writes z·gate + x to y, value by value. All
// have one length; y may be x.
func GatedAdd(y, x, z, bias, gate []float32) {
	x, z, bias, gate = x[:len(y)], z[:len(y)], bias[:len(y)], gate[:len(y)]
	if len(y) == 0 || gatedAddFast(y, x, z, bias, gate) {
		return
	}
	for i, v := range z {
		v += bias[i]
		z[i] = v
		y[i] = float32(v*gate[i]) + x[i]
	}
}

// GatedBackward writes the gradient dy·gate of the z that [GatedAdd] left to
// dz, which may be dy, and adds it to sums, and its product with z to
// gateSums. All have one length.
func GatedBackward(dz, dy, z, gate []float32, sums, gateSums []float64) {
	n := len(dz)
	dy, z, gate, sums, gateSums = dy[:n], z[:n], gate[:n], sums[:n], gateSums[:n]
	if n == 0 || gatedBackFast(dz, dy, z, gate, sums, gateSums) {
		return
	}
	for i, d := range dy {
		v := d * gate[i]
		dz[i] = v
		sums[i] += float64(v)
		gateSums[i] += float64(v * z[i])
	}
}
