package head

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestChoicesThatDoNotFit: rows without a head, a wrong number of choices and
// none at all are errors, in passes and in frozen heads.
func TestChoicesThatDoNotFit(t *testing.T) {
	c := Sequential{Heads: []Config{Gated{}, Switch{Options: map[string]Config{
		"a": Gated{}, "b": Switch{Options: map[string]Config{"c": Gated{}}},
	}}}}
	h := newHead(t, c, 3)
	x, dst := random(newRand(1), 2, 3), random(newRand(1), 2, 3)
	for _, bad := range []struct {
		choices []string
		want    string
	}{
		{nil, "there are none"},
		{[]string{"a"}, "2 rows and 1 choices"},
		{[]string{"a", "d"}, `row 1 chose "d"`},
		{[]string{"a", ""}, `row 1 chose ""`},
		{[]string{"ab", "a"}, `row 0 chose "ab"`},
		{[]string{"a", "b"}, `option "b": row 0 chose ""`},
		{[]string{"a", "b/d"}, `option "b": row 0 chose "d"`},
	} {
		_, err := Forward(h.NewPass(), x, bad.choices)
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q: Forward gives %v, want %q", bad.choices, err, bad.want)
		}
		if err := Apply(h.Freeze(), dst, x, bad.choices); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q: Apply gives %v, want %q", bad.choices, err, bad.want)
		}
	}
	if _, err := h.NewPass().Forward(x); err == nil {
		t.Error("Forward without choices: no error")
	}
	if err := h.Freeze().Apply(dst, x); err == nil {
		t.Error("Apply without choices: no error")
	}
	if err := Apply(h.Freeze(), dst, x, []string{"a", "b/c"}); err != nil {
		t.Error(err)
	}
}

func TestCheckChoices(t *testing.T) {
	inner := Switch{Options: map[string]Config{"c": Empty{}, "d": Empty{}}}
	c := Sequential{Heads: []Config{Empty{}, Switch{Options: map[string]Config{"a": Empty{}, "b": inner}}}}
	for _, tc := range []struct {
		config  Config
		choices string
		want    string // "" for none
	}{
		{Empty{}, "", ""},
		{Empty{}, "a b", ""},
		{c, "a b/c b/d", ""},
		{c, "a/x a/y b/c b/d", ""},
		{c, "", "heads[1]: a head switch needs the choices"},
		{c, "a b/c", `heads[1]: option "b": no object can choose the option "d"`},
		{c, "a b/c b/d b/e", `option "b": there is no head for the choice "e"`},
		{c, "a", `no object can choose the option "b"`},
		{c, "a b/c b/d e", `there is no head for the choice "e"`},
		{Switch{Options: map[string]Config{"a": Empty{}, "a/b": Empty{}}}, "a/b a/c", ""},
	} {
		err := CheckChoices(tc.config, strings.Fields(tc.choices))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.choices, err, tc.want)
		}
	}
}

// TestProcessorsDoNotChangeTraining: outputs and gradients have the same bits
// with any GOMAXPROCS.
func TestProcessorsDoNotChangeTraining(t *testing.T) {
	const n, dim = 300, 120
	run := func(c Config, procs int) (bits []float32) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		h := newHead(t, c, dim)
		p := h.NewPass()
		y, err := Forward(p, random(newRand(1), n, dim), choices(n))
		if err != nil {
			t.Fatal(err)
		}
		bits = slices.Clone(y.Float32s())
		dx, err := p.Backward(random(newRand(2), n, h.Out()), true)
		if err != nil {
			t.Fatal(err)
		}
		bits = append(bits, dx.Float32s()...)
		for _, p := range h.Parameters() {
			bits = append(bits, p.Grads()...)
		}
		return bits
	}
	for name, c := range heads() {
		if !slices.Equal(run(c, 1), run(c, 5)) {
			t.Errorf("%s: 1 and 5 processors give different bits", name)
		}
	}
}
