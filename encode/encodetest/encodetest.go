package encodetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
)

// Options says what a model is checked with. The zero value is fine for an
// encoder of texts.
type Options struct {
	// Inputs are what the encoder is to encode: at least two, of different
	// lengths or sizes; the checks repeat and reorder them. Default: 24 texts
	// in several scripts, among them the empty text, a text of 2,000 words and
	// bytes that are no UTF-8.
	Inputs []encode.Input
	// Instances is how many encoders run at the same time. Default: 4.
	Instances int
	// BatchSizes are the sizes in which the inputs are encoded; those above
	// the number of inputs repeat them. Default: 1, 2, 3, 7 and 32.
	BatchSizes []int
}

func (o Options) withDefaults() Options {
	if len(o.Inputs) == 0 {
		o.Inputs = Texts()
	}
	if o.Instances <= 0 {
		o.Instances = 4
	}
	if len(o.BatchSizes) == 0 {
		o.BatchSizes = []int{1, 2, 3, 7, 32}
	}
	return o
}

// Texts returns the default inputs, each a text.
func Texts() []encode.Input {
	texts := []string{
		"The quick brown fox jumps over the lazy dog.",
		"How do I rotate the access keys of a service account?",
		"how do i rotate the access keys of a service account?",
		"", " ", "a", "A", "...", "0", "\x00", "\t\r\n",
		"Café naïve, Zürich; e\u0301", "Быстрая коричневая лиса", "敏捷的棕色狐狸跳过懒狗。", "빠른 갈색 여우", "الثعلب البني السريع", "तेज़ भूरी लोमड़ी",
		"👩‍👩‍👧 family 🔥", "zero\u200bwidth", "[SEP] [CLS] </s> <|endoftext|>",
		"invalid \xff\xfe bytes \xc3", strings.Repeat("x", 300),
		strings.Repeat("word ", 2000), "The quick brown fox jumps over the lazy dog. And again.",
	}
	inputs := make([]encode.Input, len(texts))
	for i, s := range texts {
		inputs[i] = encode.Input{encode.TextValue(s)}
	}
	return inputs
}

// A Violation is one broken rule of the contract.
type Violation struct {
	// Rule is the short name of the rule: "spec", "open", "encode", "dim",
	// "dst", "finite", "deterministic", "instances", "batch_invariant",
	// "prepared", "empty_batch", "input", "kept", "cancel", "concurrent" or "close"; for a
	// panic also "output" or "edges", the group of checks that it ended.
	Rule string
	// Detail says what was seen.
	Detail string
}

// Error returns the rule and what was seen.
func (v *Violation) Error() string { return v.Rule + ": " + v.Detail }

// Run checks model as subtests of t, one a rule. It opens and closes encoders
// of its own.
func Run(t *testing.T, model encode.Model, opts Options) {
	t.Helper()
	c := &checker{model: model, opts: opts.withDefaults()}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Helper()
			for _, err := range c.check(t.Context(), r) {
				t.Error(err)
			}
		})
	}
}

// Check is [Run] outside of a test: it returns nil, or all violations joined,
// each a [*Violation]. It ends early when ctx ends.
func Check(ctx context.Context, model encode.Model, opts Options) error {
	c := &checker{model: model, opts: opts.withDefaults()}
	var errs []error
	for _, r := range rules {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, c.check(ctx, r)...)
	}
	return errors.Join(errs...)
}

// rule is one group of checks, run on its own.
type rule struct {
	name string
	run  func(c *checker, ctx context.Context)
}

var rules = []rule{
	{"spec", (*checker).spec},
	{"open", (*checker).open},
	{"output", (*checker).output},
	{"deterministic", (*checker).deterministic},
	{"batch_invariant", (*checker).batchInvariant},
	{"prepared", (*checker).prepared},
	{"edges", (*checker).edges},
	{"cancel", (*checker).cancel},
	{"concurrent", (*checker).concurrent},
	{"close", (*checker).close},
}

// checker runs rules and collects what they break.
type checker struct {
	model encode.Model
	opts  Options
	found []error
}

// check runs one rule. A panic of the model is a violation, too.
func (c *checker) check(ctx context.Context, r rule) (found []error) {
	c.found = nil
	defer func() {
		if p := recover(); p != nil {
			found = append(c.found, &Violation{r.name, fmt.Sprintf("panic: %v", p)})
		}
	}()
	r.run(c, ctx)
	return c.found
}

func (c *checker) failf(rule, format string, args ...any) {
	c.found = append(c.found, &Violation{rule, fmt.Sprintf(format, args...)})
}

// with opens an encoder, calls fn and closes the encoder.
func (c *checker) with(ctx context.Context, worker int, fn func(encode.Encoder)) {
	enc, err := c.model.Open(ctx, worker)
	if err != nil {
		c.failf("open", "worker %d: %v", worker, err)
		return
	}
	defer func() {
		if err := enc.Close(); err != nil {
			c.failf("close", "worker %d: %v", worker, err)
		}
	}()
	fn(enc)
}
