package metric

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
)

// Config declares a metric: a [Ranking] or a [Correlation]. Its zero value is
// valid, and every option's zero value is its default.
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
}

// Ranking is a metric of retrieval: a number for every query, from the ranks
// of its relevant objects alone. What is reported is the mean over queries.
type Ranking interface {
	Config
	// Score is the value of one query. ranks are the ranks of its relevant
	// objects, from 1, all different, in rising order; there is at least
	// one. Score is called from several goroutines and must not keep ranks.
	Score(ranks []int32) float64
}

// Weighted is a Ranking whose mean over queries is a weighted one.
type Weighted interface {
	Ranking
	// Weight is that of a query with so many relevant objects, above 0.
	Weight(relevant int) float64
}

// Correlation is a metric of scored pairs: how well the similarities of their
// objects follow the scores.
type Correlation interface {
	Config
	// Correlate is the value for pairs of those scores and cosine
	// similarities, of which there is one each for every pair.
	Correlate(scores, similarities []float32) float64
}

// VariantQuaterion selects formulas as Quaterion computes them.
const VariantQuaterion = "quaterion"

func checkVariant(v string) error {
	if v != "" && v != VariantQuaterion {
		return fmt.Errorf("variant is %q where %q or nothing is known", v, VariantQuaterion)
	}
	return nil
}

// variantName is a metric's name in reports.
func variantName(typ, variant string) string {
	if variant == "" {
		return typ
	}
	return typ + ":" + variant
}

// ErrType is returned by [Parse] for an unknown type.
var ErrType = errors.New("unknown metric type")

// kind reads the options of one type of metric.
type kind struct {
	typ   string
	parse func(params []byte) (Config, error)
}

func kindOf[C Config]() kind {
	var zero C
	return kind{zero.Type(), func(params []byte) (Config, error) { return strictjson.Decode[C](params) }}
}

// kinds are the metrics of this package.
func kinds() []kind {
	return []kind{
		kindOf[MAP](), kindOf[NDCG](), kindOf[RPrecision](), kindOf[Recall](), kindOf[ReciprocalRank](),
		kindOf[RetrievalPrecision](), kindOf[Spearman](),
	}
}

// Types are the types that [Parse] knows, sorted.
func Types() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.typ)
	}
	slices.Sort(names)
	return names
}

// Parse returns the metric declared by a type and the JSON object of its
// options, as [Config.Params] prints them; empty params are all defaults. An
// unknown option and one out of range are errors.
func Parse(typ string, params json.RawMessage) (Config, error) {
	all := kinds()
	at := slices.IndexFunc(all, func(k kind) bool { return k.typ == typ })
	if at < 0 {
		return nil, fmt.Errorf("%w %q (known: %s)", ErrType, typ, strings.Join(Types(), ", "))
	}
	c, err := all[at].parse(params)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("metric %s: %w", typ, err)
	}
	return c, nil
}
