package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

const (
	// commitTries bounds how often a commit gives way to other processes.
	commitTries = 100
	// claimWait is how long a commit waits for another that has taken its
	// number; it is over in milliseconds unless its process was killed.
	claimWait = 5 * time.Second
	claimPoll = 50 * time.Millisecond
)

// Commit makes the fill count, after the group that ran its stages has ended
// without an error. What other fills have committed in between stays. It
// returns the manifest that holds this fill; where the cache held all of it
// before, no new generation is made. The Cache it was started from then
// stands at that manifest.
//
// After an error the fill may count all the same if the error came after the
// manifest got its name; a new fill of the same rows then changes nothing.
func (f *Fill) Commit(ctx context.Context) (*Manifest, error) {
	if f.ended || f.opts.DryRun {
		return nil, errors.New("cachesink: commit of a fill that has ended or was a dry run")
	}
	defer f.Abort() // of files that will have their names by then
	views := map[string]*view{}
	for _, name := range f.names {
		if e := f.byName[name]; e.Cached {
			own, err := e.written()
			if err != nil {
				return nil, err
			}
			views[name] = &view{own: own, now: slices.Concat(e.entry.Shards, own)}
			if len(own) > 0 { // some of which another fill may have written
				if err := settle(ctx, f.c.st, e.entry.Folder); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, w := range f.splits {
		if err := w.finish(ctx); err != nil {
			return nil, err
		}
	}
	for range commitTries {
		cur, err := settled(ctx, f.c.st)
		if err != nil {
			return nil, err
		}
		next, changed, err := f.merge(ctx, cur, views)
		if err != nil {
			return nil, err
		}
		if changed {
			if err := quiet(ctx, f.c.st); err != nil {
				return nil, err
			}
			if err := f.present(ctx, views); err != nil {
				return nil, err
			}
			err = next.commit(ctx, f.c.st, cur.Generation+1)
			if errors.Is(err, fs.ErrExist) {
				continue // another fill was first: read again and merge
			}
		} else if cur.Generation > 0 {
			err = settle(ctx, f.c.st, manifestsDir) // which another fill may have committed
		}
		if err != nil {
			return nil, err
		}
		f.c.manifest = next
		return next, nil
	}
	return nil, fmt.Errorf("%w: to %s, %d times", ErrBusy, f.c.st, commitTries)
}

// settle makes the names in a folder durable, where a process that was killed
// may have given them.
func settle(ctx context.Context, st store.Store, folder string) error {
	d, ok := st.(*store.Dir)
	if !ok {
		return nil
	}
	// A folder that is gone has no names; who relies on one finds that out.
	if err := d.Settle(ctx, strings.TrimSuffix(folder, "/")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync %s of %s: %w", folder, st, err)
	}
	return nil
}

// present finds a shard of the fill that another process has removed since it
// was finished: no manifest named it yet.
func (f *Fill) present(ctx context.Context, views map[string]*view) error {
	for _, v := range views {
		for _, s := range v.own {
			for _, name := range []string{s.Name, s.Name + sumSuffix} {
				if _, err := f.c.st.Stat(ctx, name); errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%w: shard %s was removed while the fill ran", ErrMoved, s.Name)
				} else if err != nil {
					return fmt.Errorf("look for %s of %s: %w", name, f.c.st, err)
				}
			}
		}
	}
	return nil
}

// settled returns the newest manifest when no other commit is under way. It
// must not be passed over: its file may still come.
func settled(ctx context.Context, st store.Store) (*Manifest, error) {
	for waited := time.Duration(0); ; waited += claimPoll {
		cur, top, err := readManifest(ctx, st)
		if err != nil || top == cur.Generation {
			return cur, err
		}
		if waited >= claimWait {
			return nil, fmt.Errorf("%w: %s of %s; if no process writes there, delete it",
				ErrBusy, manifestName(top)+store.ClaimSuffix, st)
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// view is an encoder's shards as one fill sees them.
type view struct {
	own []Shard // those of the fill
	now []Shard // those that the positions in its split files count through
}

// written returns the fill's own shards in order, or an error while one is
// not finished.
func (e *encoderFill) written() ([]Shard, error) {
	out := make([]Shard, len(e.plans))
	for i, p := range e.plans {
		if p.result == nil {
			return nil, fmt.Errorf("%w: encoder %q: shard %s was not written", ErrEmbeddings, e.Name, p.name)
		}
		out[i] = *p.result
	}
	return out, nil
}

// merge adds the fill to a manifest. Where the manifest has other shards
// before those of the fill, the split files are written anew with the
// positions that this gives, and the views moved.
func (f *Fill) merge(ctx context.Context, cur *Manifest, views map[string]*view) (next *Manifest, changed bool, err error) {
	next = &Manifest{
		Format: cur.Format, Generation: cur.Generation, Digest: cur.Digest,
		Encoders: slices.Clone(cur.Encoders), Splits: slices.Clone(cur.Splits),
	}
	shifts := map[string]*shift{}
	moved := false
	for _, name := range f.names {
		v := views[name]
		if v == nil {
			continue
		}
		shards, grown := f.mergeEncoder(next, name, v)
		changed = changed || grown
		if shifts[name], err = newShift(v.now, shards); err != nil {
			return nil, false, fmt.Errorf("encoder %q: %w", name, err)
		}
		moved = moved || !shifts[name].same
		v.now = shards
	}
	for _, w := range f.splits {
		if moved {
			if err := w.move(ctx, func(enc string, pos int64) int64 { return shifts[enc].at(pos) }); err != nil {
				return nil, false, err
			}
		}
		fp := w.fingerprint()
		old := next.Split(w.cols.split, fp)
		if old != nil && !slices.Contains(f.opts.Damaged, old.Folder) {
			changed = next.renew(old) || changed
			continue
		}
		s, err := f.publishSplit(ctx, w, fp)
		if err != nil {
			return nil, false, err
		}
		if old != nil {
			same := slices.Equal(old.Files, s.Files) && slices.Equal(old.Inputs, s.Inputs)
			*old, changed = *s, changed || !same
			continue
		}
		next.Splits = append(next.Splits, *s)
		changed = true
	}
	return next, changed, nil
}

// renew makes a split the last of its name, whatever was filled since, and
// reports whether it was not: the order tells a collection what is in use.
func (m *Manifest) renew(s *Split) bool {
	last := s
	for i := range m.Splits {
		if m.Splits[i].Name == s.Name {
			last = &m.Splits[i]
		}
	}
	if last == s {
		return false
	}
	again := *s
	m.Splits = slices.DeleteFunc(m.Splits, func(o Split) bool { return o.Name == again.Name && o.Fingerprint == again.Fingerprint })
	m.Splits = append(m.Splits, again)
	return true
}

// mergeEncoder adds the fill's shards of one encoder to a manifest, and
// returns all shards that the encoder has then.
func (f *Fill) mergeEncoder(m *Manifest, name string, v *view) (shards []Shard, changed bool) {
	e := f.byName[name]
	entry := m.Encoder(e.entry.Folder)
	if entry == nil {
		m.Encoders = append(m.Encoders, e.entry)
		entry = &m.Encoders[len(m.Encoders)-1]
		entry.Shards = []Shard{}
		changed = true
	}
	there := make(map[string]bool, len(entry.Shards))
	for _, s := range entry.Shards {
		there[s.ID] = true
	}
	shards = slices.Clone(entry.Shards)
	for _, s := range v.own {
		if !there[s.ID] {
			shards = append(shards, s)
			changed = true
		}
	}
	entry.Shards = shards
	return shards, changed
}

// publishSplit names the files of a split. The folder's name is made of the
// rows' fingerprint and the files' checksums, so that one name never stands
// for two contents, whatever other fills do at the same time.
func (f *Fill) publishSplit(ctx context.Context, w *splitWriter, fp string) (*Split, error) {
	s := &Split{Name: w.cols.split, Fingerprint: fp, Kind: w.cols.kind, Rows: w.rows, Encoders: []SplitEncoder{}}
	for _, name := range f.names {
		e := f.byName[name]
		se := SplitEncoder{Name: name, Fingerprint: e.Fingerprint, Input: e.Input, Objects: w.objects[name]}
		if e.Cached {
			se.Folder = e.entry.Folder
		}
		s.Encoders = append(s.Encoders, se)
	}
	tail := splitTail(s.Name, fp, w.table, w.inputs)
	s.Folder = "splits/" + tail
	var err error
	if s.Files, err = w.table.publish(ctx, s.Folder); err != nil {
		return nil, err
	}
	if w.inputs != nil {
		if s.Inputs, err = w.inputs.publish(ctx, "inputs/"+tail); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// splitTail returns the name of the folders of a split's finished files.
func splitTail(split, fingerprint string, tables ...*tableWriter) string {
	h := sha256.New()
	fmt.Fprintf(h, "permafrost.splitfolder.v1\n%s\n", fingerprint)
	for _, t := range tables {
		if t == nil {
			continue
		}
		for _, f := range t.files {
			fmt.Fprintln(h, sumDigest(f.done))
		}
	}
	return fmt.Sprintf("%s-%s", split, hex.EncodeToString(h.Sum(nil))[:12])
}

// shift maps the positions in one list of shards to those in another.
type shift struct {
	same bool // every position stays
	runs []run
}

// run is a shard's rows in both lists.
type run struct{ from, to, rows int64 }

func newShift(from, to []Shard) (*shift, error) {
	start := make(map[string]int64, len(to))
	var n int64
	for _, s := range to {
		start[s.ID] = n
		n += s.Rows
	}
	m := &shift{same: true, runs: make([]run, len(from))}
	n = 0
	for i, s := range from {
		pos, ok := start[s.ID]
		if !ok {
			return nil, fmt.Errorf("%w: shard %s was removed while the fill ran", ErrMoved, s.Name)
		}
		m.same = m.same && pos == n
		m.runs[i] = run{n, pos, s.Rows}
		n += s.Rows
	}
	return m, nil
}

// at returns the new position of one in the old list.
func (m *shift) at(pos int64) int64 {
	i, _ := slices.BinarySearchFunc(m.runs, pos, func(r run, p int64) int {
		switch {
		case p < r.from:
			return 1
		case p >= r.from+r.rows:
			return -1
		}
		return 0
	})
	return m.runs[i].to + pos - m.runs[i].from
}
