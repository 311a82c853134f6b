package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/source"
	"github.com/permafrost-ml/permafrost/stage"
)

// samples is the head of the dataflow: the rows of the splits, one split
// after the other, as sample batches.
func (p *Pipeline[Row]) samples(g *stage.Group, encoders []encoder, plans []splitPlan, guard *source.Guard) stage.Stream[arrow.Record] {
	var uses []encode.Use
	for _, e := range encoders {
		uses = append(uses, encode.Use{Name: e.name, Reads: e.reads, Key: e.key})
	}
	streams := make([]stage.Stream[arrow.Record], len(plans))
	for i, sp := range plans {
		bad := func(e *source.RowError) error {
			err := guard.Handle(e)
			if err == nil {
				sp.leftOut.Add(1)
			}
			return err
		}
		rows := stage.From(g, "read "+sp.name, func(ctx context.Context) iter.Seq2[Sample, error] {
			return p.read(ctx, source.Limit(p.cfg.Splits[sp.name], p.cfg.Limit), bad)
		})
		streams[i] = encode.Samples(g, rows, encode.SampleOptions{
			Split: sp.name, Uses: uses, KeepTypes: p.cfg.KeepTypes, Allocator: p.cfg.Allocator,
			Skip: func(s Sample, err error) error {
				return bad(&source.RowError{Pos: s.Pos, Raw: s.Raw, Err: err})
			},
		})
	}
	return stage.Concat(g, streams...)
}

// read yields the samples of a source; its bad rows go to bad, which returns
// nil for one that is left out.
func (p *Pipeline[Row]) read(ctx context.Context, src source.Source[Row], bad func(*source.RowError) error) iter.Seq2[Sample, error] {
	return func(yield func(Sample, error) bool) {
		checked := false // the samples of a split have the same columns
		for row, err := range src.Rows(ctx) {
			if e := (*source.RowError)(nil); errors.As(err, &e) {
				if err = bad(e); err == nil {
					continue
				}
			}
			var s Sample
			if err == nil {
				s, err = p.sample(row, !checked)
				checked = checked || len(s.Keep) > 0
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// sample calls the user's function. Its panic is an error that names the row.
func (p *Pipeline[Row]) sample(row source.Row[Row], check bool) (s Sample, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: make a sample: %w", row.Pos, &stage.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	s = p.cfg.Sample(row.Value)
	s.Pos, s.Raw = row.Pos, row.Raw
	if !check {
		return s, nil
	}
	for _, k := range s.Keep {
		if cachesink.ReservedColumn(k.Name, p.names) {
			return s, configErr("%s: kept column %q has the name of a column that every split has", row.Pos, k.Name)
		}
	}
	return s, nil
}

func (p *Pipeline[Row]) guard() (*source.Guard, error) {
	path := ""
	if p.cfg.OnError == source.Quarantine {
		path = p.cfg.Quarantine
	}
	g, err := source.NewGuard(p.cfg.OnError, path)
	if err != nil {
		return nil, configErr("on_error: %w", err)
	}
	return g, nil
}

// leavesOut reports whether bad rows are left out instead of ending the run.
func (c *Config[Row]) leavesOut() bool {
	return c.OnError == source.Skip || c.OnError == source.Quarantine
}
