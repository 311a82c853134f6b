package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/permafrost-ml/permafrost/cachesink"
)

// lookup is what a key was found to name.
type lookup struct {
	Key     string        `json:"key"`
	Total   int64         `json:"total"` // there may be more than are shown
	Matches []lookupMatch `json:"matches"`
}

type lookupMatch struct {
	cachesink.KeyMatch
	Dim    int       `json:"dim"`    // 0 where there is no embedding
	Norm   float64   `json:"norm"`   // Euclidean
	Values []float32 `json:"values"` // the first ones
}

func lookUp(ctx context.Context, c *cachesink.Cache, flags inspectFlags) (*lookup, error) {
	opts := cachesink.LookupOptions{Encoder: flags.encoder, Limit: flags.rows}
	if flags.split != "" {
		s, err := findSplit(c.Manifest(), flags.split)
		if err != nil {
			return nil, err
		}
		opts.Split = s
	}
	found, total, err := c.Lookup(ctx, flags.key, opts)
	if err != nil {
		return nil, err
	}
	if total == 0 {
		where := "any split"
		if flags.split != "" {
			where = fmt.Sprintf("split %q", flags.split)
		}
		if flags.encoder != "" {
			where += fmt.Sprintf(" under encoder %q", flags.encoder)
		}
		return nil, fmt.Errorf("%w: nothing has the key %q in %s", cachesink.ErrMissing, flags.key, where)
	}
	out := &lookup{Key: flags.key, Total: total, Matches: []lookupMatch{}}
	for _, m := range found {
		out.Matches = append(out.Matches, lookupMatch{
			KeyMatch: m, Dim: len(m.Embedding), Norm: norm(m.Embedding),
			Values: append([]float32{}, m.Embedding[:min(len(m.Embedding), flags.values)]...),
		})
	}
	return out, nil
}

// norm is the Euclidean length of an embedding.
func norm(vec []float32) float64 {
	sum := 0.0
	for _, v := range vec {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

func (a *app) printLookup(l *lookup) error {
	rows := [][]string{{"split", "row", "object", "id", "norm", "columns", "embedding"}}
	for _, m := range l.Matches {
		length, values := "-", "not cached"
		if m.Dim > 0 {
			length = strconv.FormatFloat(m.Norm, 'f', 4, 64)
			values = firstValues(m.Values, m.Dim)
		}
		rows = append(rows, []string{
			m.Split, fmt.Sprint(m.Row.Row), cachesink.EncoderColumn(m.Encoder, m.Side, ""), short(m.ID), length, rowColumns(&m.Row), values,
		})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	shown := int64(len(l.Matches))
	if shown == l.Total {
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "%s of %s matches; --rows N shows more\n", count(shown), count(l.Total))
	return err
}

// firstValues writes the beginning of an embedding.
func firstValues(values []float32, dim int) string {
	var out []string
	for _, v := range values {
		out = append(out, strconv.FormatFloat(float64(v), 'g', 4, 32))
	}
	if len(values) < dim {
		out = append(out, "…")
	}
	return fmt.Sprintf("[%s] of %d", strings.Join(out, " "), dim)
}
