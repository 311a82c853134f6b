// Package serve gives the splits of a cache to processes outside: see package
// sink/flight for the protocol.
//
//	splits, err := serve.Open(ctx, cache, newest)
//	defer splits.Release()
//	err = splits.Flight(ctx, flight.Options{Token: token}, listener)
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

// Splits are loaded splits of a cache.
type Splits struct {
	tables  cachesink.Tables
	readers []*cachesink.SplitReader
	served  map[string]flight.Table
}

// Open loads and checks splits of a cache, of different names. The caller
// releases them.
func Open(ctx context.Context, c *cachesink.Cache, splits []*cachesink.Split) (_ *Splits, err error) {
	s := &Splits{served: map[string]flight.Table{}}
	defer func() {
		if err != nil {
			s.Release()
		}
	}()
	for _, split := range splits {
		if s.served[split.Name] != nil {
			return nil, fmt.Errorf("serve: two splits are named %q", split.Name)
		}
		r, err := c.Read(ctx, cached(split), &s.tables)
		if err != nil {
			return nil, err
		}
		s.readers = append(s.readers, r)
		shown, err := r.Select(columns(r.Schema(), split)...)
		if err != nil {
			return nil, err
		}
		s.served[split.Name] = table{shown}
	}
	return s, nil
}

// Release frees the splits, which nothing serves any more.
func (s *Splits) Release() {
	for _, r := range s.readers {
		r.Release()
	}
	s.tables.Release()
}

// Flight serves the splits on l, which it closes, until ctx ends, as
// [flight.Server.Serve] says. It sets Options.Splits and Options.Code.
func (s *Splits) Flight(ctx context.Context, o flight.Options, l net.Listener) error {
	o.Splits, o.Code = s.served, code
	srv, err := flight.New(o)
	if err != nil {
		return errors.Join(err, l.Close())
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
