package cachesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
)

// shardMemo is what is known of a shard that is being encoded.
type shardMemo struct {
	m     *Memo
	p     *shardPlan
	given atomic.Bool // another fill has published it: its rows are not used

	mu     sync.Mutex
	own    *partialWriter
	failed error         // why own could not be begun; another worker would only find its name taken
	files  []partialFile // of others
	recs   []partialPlace
	rows   []int64 // by row: its record's number, from 1, << 32, and its row there; nil if nothing is known
	mem    []byte  // of rows; outside the heap
	rec    partialRecord
	inRec  int // the record in rec, -1 for none
}

// partialFile is a partial file that another fill has written, or writes.
type partialFile struct {
	name string
	r    *partialReader // nil if it could not be read
	next int64          // offset of the first record that was not read
	bad  bool           // nothing that comes counts
}

// partialPlace is where a record is.
type partialPlace struct {
	file int
	at   int64
}

// begin starts to encode a shard. If others have worked at it since the fill
// began, their partial files are looked for.
func (m *Memo) begin(ctx context.Context, p *shardPlan, look bool) (*shardMemo, error) {
	s := &shardMemo{m: m, p: p, inRec: -1}
	if !m.on {
		return s, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if look {
		if err := s.find(ctx); err != nil {
			return s, err
		}
	}
	return s, s.scan(ctx)
}

// find looks for partial files of other fills.
func (s *shardMemo) find(ctx context.Context) error {
	st, folder := s.m.f.c.st, s.m.e.entry.Folder
	list, err := st.List(ctx, folder+"/")
	if err != nil {
		return fmt.Errorf("list the partial shards of %s: %w", st, err)
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, info := range list {
		shard, ok := partialShard(folder, info.Name)
		if ok && shard == s.p.id && info.Name != s.ownName() && !slices.Contains(s.m.left[shard], info.Name) {
			s.m.left[shard] = append(s.m.left[shard], info.Name)
		}
	}
	return nil
}

func (s *shardMemo) ownName() string { return partialName(s.m.e.entry.Folder, s.p.id, s.m.nonce) }

// scan notes what is new in the partial files that are known.
func (s *shardMemo) scan(ctx context.Context) error {
	s.m.mu.Lock()
	names := slices.Clone(s.m.left[s.p.id])
	s.m.mu.Unlock()
	for _, name := range names {
		i := slices.IndexFunc(s.files, func(f partialFile) bool { return f.name == name })
		if i < 0 {
			i = len(s.files)
			s.files = append(s.files, partialFile{name: name, next: partialHead})
		}
		if err := s.scanFile(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// scanFile notes the records of a file from where the last scan ended to the
// first bad one. Only memory and the context can fail: what cannot be read is
// encoded.
func (s *shardMemo) scanFile(ctx context.Context, i int) error {
	f := &s.files[i]
	if f.bad {
		return nil
	}
	r, err := openPartial(ctx, s.m.f.c.st, f.name, s.p.id, s.m.e.Dim)
	if err != nil {
		return ctx.Err()
	}
	if f.r != nil {
		f.r.close()
	}
	f.r = r
	if s.rows == nil {
		if s.mem, err = allocate(int(s.p.rows) * 8); err != nil {
			return err
		}
		s.rows = arrow.Int64Traits.CastFromBytes(s.mem)
	}
	s.inRec = -1
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		next, err := r.read(&s.rec, f.next)
		if err != nil {
			f.bad = errors.Is(err, ErrCorrupt)
			return nil
		}
		s.note(partialPlace{i, f.next})
		f.next = next
	}
}

// note notes the rows of the record just read that were not known.
func (s *shardMemo) note(at partialPlace) {
	fresh := false
	for k := 0; k*idBytes < len(s.rec.ids); k++ {
		p, row := s.m.e.locate(s.rec.ids[k*idBytes:])
		if p != s.p || s.rows[row] != 0 {
			continue
		}
		if !fresh {
			s.recs, fresh = append(s.recs, at), true
		}
		s.rows[row] = int64(len(s.recs))<<32 | int64(k)
	}
}

// load gives the embeddings of a batch if all are known.
func (s *shardMemo) load(ctx context.Context, ids []byte, dst []float32) (bool, error) {
	if s.given.Load() {
		clear(dst)
		return true, nil
	}
	if s.m.f.leases.lost(ctx, s.p.task()) {
		return s.follow(ctx, ids, dst)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copy(ids, dst), nil
}

// follow is load after another fill took over the shard, because this one
// seemed dead: it waits for that, rather than doing the same work. It does
// not wait for long where nothing comes: that may be waiting for this one.
func (s *shardMemo) follow(ctx context.Context, ids []byte, dst []float32) (bool, error) {
	f := s.m.f
	seen, since := -1, time.Now()
	for {
		held, _, other := f.leases.claim(ctx, s.p.task(), s.p.name)
		done, ok, err := adopt(ctx, f.c.st, f.mem, s.p, other)
		if err != nil {
			return false, err
		}
		if ok {
			s.m.e.adopted(s.p, done)
			s.given.Store(true)
			clear(dst)
			return true, nil
		}
		ok, known, err := s.again(ctx, ids, dst)
		if ok || held || err != nil {
			return ok, err
		}
		if known != seen {
			seen, since = known, time.Now()
		} else if time.Since(since) > leaseTTL {
			return false, nil
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

// again looks for a batch in what others have written since, and returns how
// many records are known.
func (s *shardMemo) again(ctx context.Context, ids []byte, dst []float32) (ok bool, known int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.find(ctx); err != nil {
		return false, 0, err
	}
	if err := s.scan(ctx); err != nil {
		return false, 0, err
	}
	return s.copy(ids, dst), len(s.recs), nil
}

// copy fills dst if all embeddings are known. What it reads is checked again.
func (s *shardMemo) copy(ids []byte, dst []float32) bool {
	if s.rows == nil {
		return false
	}
	dim := s.m.e.Dim
	for len(ids) > 0 {
		p, row := s.m.e.locate(ids)
		if p != s.p || s.rows[row] == 0 {
			return false
		}
		rec, k := int(s.rows[row]>>32)-1, int(uint32(s.rows[row]))
		if rec != s.inRec {
			s.inRec = -1
			if _, err := s.files[s.recs[rec].file].r.read(&s.rec, s.recs[rec].at); err != nil {
				return false
			}
			s.inRec = rec
		}
		if (k+1)*idBytes > len(s.rec.ids) || !bytes.Equal(s.rec.ids[k*idBytes:(k+1)*idBytes], ids[:idBytes]) {
			return false
		}
		v := s.rec.vecs[k*dim : (k+1)*dim]
		if !finite(v) {
			return false
		}
		ids, dst = ids[idBytes:], dst[copy(dst, v):]
	}
	return true
}

// store keeps a batch in the fill's own partial file.
func (s *shardMemo) store(ctx context.Context, ids []byte, vecs []float32) error {
	w, err := s.writer(ctx)
	if err == nil {
		err = w.append(ids, vecs)
	}
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", s.ownName(), s.m.f.c.st, err)
	}
	return nil
}

func (s *shardMemo) writer(ctx context.Context) (*partialWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		if s.failed != nil {
			return nil, s.failed
		}
		w, err := newPartialWriter(ctx, s.m.f.c.st, s.ownName(), s.p.id, s.m.e.Dim)
		if err != nil {
			s.failed = err
			return nil, err
		}
		s.own = w
		s.m.write(w)
	}
	return s.own, nil
}

// close lets go of the partial files, which stay. Nil may be closed.
func (s *shardMemo) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own != nil {
		s.m.mu.Lock()
		delete(s.m.writers, s.own)
		s.m.mu.Unlock()
		s.own.close()
		s.own = nil
	}
	for _, f := range s.files {
		if f.r != nil {
			f.r.close()
		}
	}
	s.files = nil
	free(s.mem)
	s.mem, s.rows = nil, nil
}

// end is close after the shard is there: its partial files go. Nil may end.
func (s *shardMemo) end(ctx context.Context) {
	if s == nil {
		return // nothing keeps what a restoration encodes
	}
	s.mu.Lock()
	wrote := s.own != nil
	s.mu.Unlock()
	s.close()
	if wrote {
		_ = s.m.f.c.st.Remove(ctx, s.ownName())
	}
	s.m.discard(ctx, s.p.id)
}

// finite says that no value is a NaN or an infinity.
func finite(v []float32) bool {
	for _, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return false
		}
	}
	return true
}

// pause waits before what another fill does is looked at again.
func pause(ctx context.Context) error {
	select {
	case <-time.After(max(leaseTTL/100, 10*time.Millisecond)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
