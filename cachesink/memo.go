package cachesink

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// syncEvery is how often partial files are looked at, and syncAfter how
	// old a record is then that is made durable: none is more than 5 seconds
	// old before that begins.
	syncEvery = time.Second
	syncAfter = 4 * time.Second
)

// Memo keeps the embeddings of one encoder in partial files from the moment
// that they are encoded until their shard is there, and knows those that a
// killed fill has left. It is safe for concurrent use.
type Memo struct {
	f     *Fill
	e     *encoderFill
	on    bool // there is something that outlives the process
	nonce string

	mu      sync.Mutex
	left    map[string][]string // partial files that others have left, by shard
	writers map[*partialWriter]bool
	quit    chan struct{} // ends the syncing; nil if none has begun
	done    chan struct{}
}

// Memo returns what [encode.Stage] is to keep the embeddings of an encoder
// in, so that a later fill need not encode again what this one has, if it is
// killed.
func (f *Fill) Memo(encoder string) *Memo {
	if e := f.byName[encoder]; e != nil && e.memo != nil {
		return e.memo
	}
	return &Memo{f: f}
}

// newMemo finds the partial files of an encoder, and removes those of shards
// that the manifest has.
func newMemo(ctx context.Context, f *Fill, e *encoderFill) (*Memo, error) {
	m := &Memo{f: f, e: e, nonce: rand.Text(), left: map[string][]string{}, writers: map[*partialWriter]bool{}}
	if _, ok := f.c.st.(*store.Mem); ok || f.opts.DryRun {
		return m, nil
	}
	m.on = true
	list, err := f.c.st.List(ctx, e.entry.Folder+"/")
	if err != nil {
		return nil, fmt.Errorf("list the partial shards of %s: %w", f.c.st, err)
	}
	for _, info := range list {
		if shard, ok := partialShard(e.entry.Folder, info.Name); ok {
			m.left[shard] = append(m.left[shard], info.Name)
		}
	}
	if len(m.left) > 0 {
		for _, s := range e.entry.Shards {
			m.discard(ctx, s.ID)
		}
	}
	return m, nil
}

// discard removes the partial files that others have left of a shard.
// One that stays takes room until a later fill.
func (m *Memo) discard(ctx context.Context, shard string) {
	m.mu.Lock()
	names := m.left[shard]
	delete(m.left, shard)
	m.mu.Unlock()
	for _, name := range names {
		_ = m.f.c.st.Remove(ctx, name)
	}
}

// Load implements encode.Memo.
func (m *Memo) Load(ctx context.Context, ids []byte, dst []float32) (bool, error) {
	if !m.on || len(ids) < idBytes {
		return false, nil
	}
	p, _ := m.e.locate(ids)
	if p == nil || p.memo == nil {
		return false, nil
	}
	ok, err := p.memo.load(ctx, ids, dst)
	if ok {
		m.e.recalled.Add(int64(len(ids) / idBytes))
	}
	return ok, err
}

// Store implements encode.Memo.
func (m *Memo) Store(ctx context.Context, ids []byte, vecs []float32) error {
	if !m.on || len(ids) < idBytes {
		return nil
	}
	p, _ := m.e.locate(ids)
	if p == nil || p.memo == nil {
		return nil // Write refuses it
	}
	return p.memo.store(ctx, ids, vecs)
}

// locate returns the planned shard of a new object and its row there, nil for
// what is not planned or not needed any more.
func (e *encoderFill) locate(id []byte) (p *shardPlan, row int64) {
	e.tableMu.Lock()
	pos, ok := e.table.find((*[32]byte)(id))
	e.tableMu.Unlock()
	if !ok {
		return nil, 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i := sort.Search(len(e.plans), func(i int) bool { return e.plans[i].first > pos }) - 1
	if i < 0 {
		return nil, 0
	}
	p, row = e.plans[i], pos-e.plans[i].first
	if at := row * idBytes; at >= int64(len(p.ids)) || !bytes.Equal(p.ids[at:at+idBytes], id[:idBytes]) {
		return nil, 0
	}
	return p, row
}

// adopted notes that another fill has published a shard.
func (e *encoderFill) adopted(p *shardPlan, s Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.result == nil {
		p.result = &s
	}
}

// write adds a partial file to those that are synced.
func (m *Memo) write(w *partialWriter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writers[w] = true
	if m.quit == nil {
		m.quit, m.done = make(chan struct{}), make(chan struct{})
		go m.sync()
	}
}

// sync syncs partial files until close.
func (m *Memo) sync() {
	defer close(m.done)
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-m.quit:
			return
		case <-t.C:
		}
		m.mu.Lock()
		var all []*partialWriter
		for w := range m.writers {
			all = append(all, w)
		}
		m.mu.Unlock()
		for _, w := range all {
			w.sync(syncAfter)
		}
	}
}

// close ends the syncing. Nil may be closed.
func (m *Memo) close() {
	if m == nil || m.quit == nil {
		return
	}
	close(m.quit)
	<-m.done
	m.quit = nil
}
