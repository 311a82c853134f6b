// Package serve gives the splits of a cache to processes outside: see package
// sink/flight for the protocol.
//
//	err := serve.Flight(ctx, cache, splits, flight.Options{Token: token}, listener)
//
// Batches have the columns of an export: the split's own, and for every
// encoder E, for pairs on either side (E_a, E_b), the object's key E_key, its
// id E_id and its embedding E as float32. Inputs of encoders that are not
// cached, and positions in the cache, are not served.
//
// A split's columns and the embeddings of its encoders are held in memory, as
// for a replay, once for all clients.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"google.golang.org/grpc/codes"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/sink/flight"
)

// Flight serves splits of a cache, of different names, on l until ctx ends;
// then, and on an error, l is closed. Nothing is served before all of them are
// loaded and checked. Options.Splits and Options.Code are set by it.
func Flight(ctx context.Context, c *cachesink.Cache, splits []*cachesink.Split, o flight.Options, l net.Listener) (err error) {
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	var loaded cachesink.Tables
	defer loaded.Release()
	o.Splits, o.Code = map[string]flight.Table{}, code
	for _, s := range splits {
		if o.Splits[s.Name] != nil {
			return fmt.Errorf("serve: two splits are named %q", s.Name)
		}
		r, err := c.Read(ctx, cached(s), &loaded)
		if err != nil {
			return err
		}
		defer r.Release()
		shown, err := r.Select(columns(r.Schema(), s)...)
		if err != nil {
			return err
		}
		o.Splits[s.Name] = table{shown}
	}
	srv, err := flight.New(o)
	if err != nil {
		return err
	}
	return srv.Serve(ctx, l)
}

// cached is a split without the inputs of encoders that are not cached.
func cached(s *cachesink.Split) *cachesink.Split {
	only := *s
	only.Inputs = nil
	only.Encoders = slices.DeleteFunc(slices.Clone(s.Encoders), func(e cachesink.SplitEncoder) bool { return e.Folder == "" })
	return &only
}

// columns are those that mean something outside of the cache.
func columns(schema *arrow.Schema, s *cachesink.Split) (names []string) {
	hidden := map[string]bool{}
	for _, e := range s.Encoders {
		for _, side := range s.Kind.Sides() {
			hidden[cachesink.EncoderColumn(e.Name, side, cachesink.RolePos)] = true
		}
	}
	for _, f := range schema.Fields() {
		if !hidden[f.Name] {
			names = append(names, f.Name)
		}
	}
	return names
}

// table is a split as package flight sees it.
type table struct{ *cachesink.SplitReader }

func (t table) Select(names ...string) (flight.Table, error) {
	r, err := t.SplitReader.Select(names...)
	return table{r}, err
}

// code says what the cache's errors are to clients.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, cachesink.ErrCorrupt):
		return codes.DataLoss
	case errors.Is(err, cachesink.ErrMissing):
		return codes.NotFound
	}
	return codes.Internal
}
