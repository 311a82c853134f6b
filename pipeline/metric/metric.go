package metric

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
)

// Config declares a metric: a number for every query, from the ranks of its
// relevant objects alone. Its zero value is valid, and every option's zero
// value is its default.
type Config interface {
	// Type is the metric's name in configuration files.
	Type() string
	// Name is the metric's name in reports; it tells two declarations of
	// one type apart: "retrieval_precision@5".
	Name() string
	// Params are the options with defaults filled in, under their names in
	// configuration files; [Parse] takes them back.
	Params() map[string]any
	// Validate reports options out of range.
	Validate() error
	// Score is the value of one query. ranks are the ranks of its relevant
	// objects, from 1, all different, in rising order; there is at least
	// one. Score is called from several goroutines and must not keep ranks.
	Score(ranks []int32) float64
}

// RetrievalPrecision declares precision at k: the share of relevant objects
// among the K nearest.
type RetrievalPrecision struct {
	// K is the number of nearest objects looked at, at least 1. Default: 1.
	K int `json:"k"`
}

// Type is "retrieval_precision".
func (RetrievalPrecision) Type() string { return "retrieval_precision" }

// Name is "retrieval_precision@k".
func (m RetrievalPrecision) Name() string { return m.Type() + "@" + strconv.Itoa(m.k()) }

// Params is k.
func (m RetrievalPrecision) Params() map[string]any { return map[string]any{"k": m.k()} }

// Validate refuses a negative K.
func (m RetrievalPrecision) Validate() error {
	if m.K < 0 {
		return fmt.Errorf("k is %d where at least 1 is needed", m.K)
	}
	return nil
}

func (m RetrievalPrecision) k() int {
	if m.K == 0 {
		return 1
	}
	return m.K
}

// Score is the number of ranks up to K, divided by K: also where fewer than
// K objects are relevant or there are fewer candidates.
func (m RetrievalPrecision) Score(ranks []int32) float64 {
	n := 0
	for n < len(ranks) && int(ranks[n]) <= m.k() {
		n++
	}
	return float64(n) / float64(m.k())
}

// ReciprocalRank declares 1 divided by the rank of the nearest relevant
// object; its mean is known as MRR.
type ReciprocalRank struct{}

// Type is "reciprocal_rank".
func (ReciprocalRank) Type() string { return "reciprocal_rank" }

// Name is "reciprocal_rank".
func (m ReciprocalRank) Name() string { return m.Type() }

// Params is empty: there are no options.
func (ReciprocalRank) Params() map[string]any { return map[string]any{} }

// Validate finds nothing wrong.
func (ReciprocalRank) Validate() error { return nil }

// Score is 1 over the first rank.
func (ReciprocalRank) Score(ranks []int32) float64 { return 1 / float64(ranks[0]) }

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown metric type")

// Types are the types that [Parse] knows, sorted.
func Types() []string {
	names := []string{RetrievalPrecision{}.Type(), ReciprocalRank{}.Type()}
	slices.Sort(names)
	return names
}

// Parse returns the metric declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option and one out of range are errors.
func Parse(typ string, params json.RawMessage) (Config, error) {
	var c Config
	var err error
	switch typ {
	case RetrievalPrecision{}.Type():
		c, err = strictjson.Decode[RetrievalPrecision](params)
	case ReciprocalRank{}.Type():
		c, err = strictjson.Decode[ReciprocalRank](params)
	default:
		return nil, fmt.Errorf("%w %q (known: %s)", ErrType, typ, strings.Join(Types(), ", "))
	}
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", typ, err)
	}
	return c, nil
}
