package cachesink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// DiffOptions are the options of [Diff].
type DiffOptions struct {
	// Examples is the most objects or rows that are shown of each kind of
	// difference. Negative shows none.
	// Default: 3.
	Examples int
	// OnProgress is called after each file or split with the bytes that were
	// read, and how many there are to read. It must return soon.
	// Default: nobody is told.
	OnProgress func(done, total int64)
}

// diffRun is what the parts of a comparison share.
type diffRun struct {
	a, b     *Cache
	examples int
	read     func(bytes int64) // notes what was read
}

// CacheDiff says how a cache b differs from a cache a.
type CacheDiff struct {
	// Equal says that both hold the same: the same encoders with the same
	// objects and the same embeddings, bit by bit, and under each name a newest
	// split with the same rows, keys and order. How it is cut into files and
	// compressed does not count, nor do older splits of a name.
	Equal    bool          `json:"equal"`
	Encoders []EncoderDiff `json:"encoders"` // sorted by name
	Splits   []SplitDiff   `json:"splits"`   // sorted by name
}

// EncoderDiff compares the stored embeddings of an encoder. Those of one
// name, fingerprint and dtype are compared first, what is left with what has
// its name and differs in the fewest fields.
type EncoderDiff struct {
	Name string          `json:"name"`
	A    *EncoderVersion `json:"a"` // nil where the cache has none to compare
	B    *EncoderVersion `json:"b"`
	// Differs are the declared fields in which they differ: "field: a -> b".
	Differs []string `json:"differs"`
	// Both is the number of distinct objects that both hold.
	Both  int64      `json:"both"`
	OnlyA ObjectDiff `json:"only_a"`
	OnlyB ObjectDiff `json:"only_b"`
	// Compared says that the embeddings were compared: both have one
	// fingerprint and dtype. Unequal are the objects in both for which they
	// are not equal bit by bit.
	Compared bool       `json:"compared"`
	Unequal  ObjectDiff `json:"unequal"`
}

// Equal reports whether both hold the same embeddings.
func (d *EncoderDiff) Equal() bool {
	return d.A != nil && d.B != nil && d.Compared && d.OnlyA.Count+d.OnlyB.Count+d.Unequal.Count == 0
}

// EncoderVersion is one cache's side of an [EncoderDiff].
type EncoderVersion struct {
	Fingerprint string `json:"fingerprint"`
	Folder      string `json:"folder"`
	DType       DType  `json:"dtype"`
	Objects     int64  `json:"objects"` // distinct
}

// ObjectDiff is a number of objects, with the ids of the first, in hex.
type ObjectDiff struct {
	Count int64    `json:"count"`
	IDs   []string `json:"ids"`
}

func (d *ObjectDiff) add(id []byte, examples int) {
	d.Count++
	d.example(id, examples)
}

func (d *ObjectDiff) example(id []byte, examples int) {
	if len(d.IDs) < examples {
		d.IDs = append(d.IDs, fmt.Sprintf("%x", id))
	}
}

// SplitDiff compares the newest splits of a name: those that the manifests
// name last. Rows are compared as sets in which one may stand several times,
// by the ids of their objects under the encoders that both splits have and by
// the values of the columns that both have: label, score, subgroup and kept
// columns. Their numbers and keys are not part of a row.
type SplitDiff struct {
	Name string        `json:"name"`
	A    *SplitVersion `json:"a"` // nil where the cache has no such split
	B    *SplitVersion `json:"b"`
	// Differs are the fields in which the splits as a whole differ: kind,
	// columns, encoders, what these read and how they are stored.
	Differs []string `json:"differs"`
	// Sources are the facts in which the sources differ that gave the two
	// splits, "fact: a -> b", as far as both caches have noted them. They tell
	// why rows differ, and are no part of Equal.
	Sources []string `json:"sources"`
	// Compared says that rows were compared: both splits are of one kind and
	// have an encoder in common.
	Compared bool  `json:"compared"`
	Same     int64 `json:"same"` // rows that both have
	// Changed are rows with the same objects and other values; Removed are
	// rows that only a has, Added those that only b has.
	Changed RowDiffs `json:"changed"`
	Removed RowDiffs `json:"removed"`
	Added   RowDiffs `json:"added"`
	// Reordered says that both have the same rows in another order,
	// Rekeyed that they have them in the same order with other keys.
	Reordered bool `json:"reordered"`
	Rekeyed   bool `json:"rekeyed"`
}

// Equal reports whether both splits have the same rows in the same order.
func (d *SplitDiff) Equal() bool {
	return d.A != nil && d.B != nil && d.Compared && len(d.Differs) == 0 &&
		d.Changed.Count+d.Removed.Count+d.Added.Count == 0 && !d.Reordered && !d.Rekeyed
}

// SplitVersion is one cache's side of a [SplitDiff].
type SplitVersion struct {
	Fingerprint string `json:"fingerprint"`
	Folder      string `json:"folder"`
	Rows        int64  `json:"rows"`
	Older       int    `json:"older"` // splits of this name that were committed before
}

// RowDiffs is a number of rows, with the first by number.
type RowDiffs struct {
	Count int64     `json:"count"`
	First []RowDiff `json:"first"`
}

// RowDiff is a row that differs.
type RowDiff struct {
	A *Row `json:"a"` // nil for an added row
	B *Row `json:"b"` // nil for a removed row
	// Differs are the columns of a changed row that differ: "label: a -> b".
	Differs []string `json:"differs"`
}

// Diff compares two caches. It reads all embeddings, and the newest split of
// each name that both have, every block checked against its checksum; damage is ErrCorrupt.
// One encoder or split at a time, it takes at most about 64 bytes of memory
// for each distinct object, or for each row, of either cache.
func Diff(ctx context.Context, a, b *Cache, opts DiffOptions) (d *CacheDiff, err error) {
	err = a.again(ctx, func(a *Cache) error {
		return b.again(ctx, func(b *Cache) error {
			d, err = diff(ctx, a, b, opts)
			return err
		})
	})
	return d, err
}

func diff(ctx context.Context, a, b *Cache, opts DiffOptions) (*CacheDiff, error) {
	pairs := pairEncoders(a.manifest, b.manifest)
	newest := [2]map[string]*Split{a.manifest.newest(), b.manifest.newest()}
	var done, total int64
	for _, p := range pairs {
		total += p.a.bytes() + p.b.bytes()
	}
	names := map[string]bool{}
	for _, m := range newest {
		for name, s := range m {
			names[name] = true
			if newest[0][name] != nil && newest[1][name] != nil {
				total += bytesOf(s.Files)
			}
		}
	}
	run := &diffRun{a: a, b: b, examples: max(0, cmp.Or(opts.Examples, 3)), read: func(bytes int64) {
		if done += bytes; opts.OnProgress != nil {
			opts.OnProgress(done, total)
		}
	}}

	d := &CacheDiff{Equal: true, Encoders: []EncoderDiff{}, Splits: []SplitDiff{}}
	for _, p := range pairs {
		ed, err := run.encoder(ctx, p.a, p.b)
		if err != nil {
			return nil, fmt.Errorf("compare encoder %q: %w", ed.Name, err)
		}
		d.Equal = d.Equal && ed.Equal()
		d.Encoders = append(d.Encoders, *ed)
	}
	notesA, errA := a.Notes(ctx)
	notesB, errB := b.Notes(ctx)
	if err := errors.Join(errA, errB); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		sa, sb := newest[0][name], newest[1][name]
		sd, err := run.split(ctx, sa, sb)
		if err != nil {
			return nil, fmt.Errorf("compare split %q: %w", name, err)
		}
		sd.Sources = diffSources(notesOf(notesA, sa), notesOf(notesB, sb))
		sd.Name = name
		d.Equal = d.Equal && sd.Equal()
		d.Splits = append(d.Splits, *sd)
	}
	return d, nil
}

// notesOf are the notes of a split.
func notesOf(notes []SourceNote, s *Split) []SourceNote {
	return slices.DeleteFunc(slices.Clone(notes), func(n SourceNote) bool {
		return s == nil || n.Split != s.Name || n.Fingerprint != s.Fingerprint
	})
}

// diffSources compares the two notes that differ least: several sources may
// have given the same rows.
func diffSources(a, b []SourceNote) []string {
	var best []string
	found := false
	for _, x := range a {
		for _, y := range b {
			if d := DiffFields(x.Facts, y.Facts); !found || len(d) < len(best) {
				best, found = d, true
			}
		}
	}
	return append([]string{}, best...)
}

// bytes is the size of all shards; a nil encoder has none.
func (e *Encoder) bytes() (n int64) {
	if e != nil {
		for _, s := range e.Shards {
			n += s.Bytes
		}
	}
	return n
}

func bytesOf(files []File) (n int64) {
	for _, f := range files {
		n += f.Bytes
	}
	return n
}

// DiffFields lists the fields in which two sets differ, sorted: "name: a -> b".
func DiffFields(a, b map[string]string) []string {
	names := map[string]bool{}
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		va, oka := a[n]
		vb, okb := b[n]
		switch {
		case !oka:
			out = append(out, fmt.Sprintf("%s: (none) -> %s", n, vb))
		case !okb:
			out = append(out, fmt.Sprintf("%s: %s -> (none)", n, va))
		case va != vb:
			out = append(out, fmt.Sprintf("%s: %s -> %s", n, va, vb))
		}
	}
	return out
}

// Differs lists how other differs from e: their declared fields, and the
// dtype in which they are stored.
func (e *Encoder) Differs(other *Encoder) []string {
	d := DiffFields(e.Spec, other.Spec)
	if e.DType != other.DType {
		d = append(d, fmt.Sprintf("stored as: %s -> %s", e.DType, other.DType))
	}
	if e.Dim != other.Dim && e.Spec["dim"] == other.Spec["dim"] { // else it is said
		d = append(d, "dimension: "+strconv.Itoa(e.Dim)+" -> "+strconv.Itoa(other.Dim))
	}
	if len(d) == 0 && e.Fingerprint != other.Fingerprint {
		d = append(d, fmt.Sprintf("fingerprint: %.12s -> %.12s", e.Fingerprint, other.Fingerprint))
	}
	return d
}

type encoderPair struct{ a, b *Encoder }

// pairEncoders decides which encoders are compared.
func pairEncoders(a, b *Manifest) []encoderPair {
	var pairs []encoderPair
	left := map[*Encoder]bool{}
	for i := range b.Encoders {
		left[&b.Encoders[i]] = true
	}
	// take pairs e with the encoder that differs least, by at most some fields.
	take := func(e *Encoder, most int) bool {
		var best *Encoder
		for i := range b.Encoders {
			o := &b.Encoders[i]
			if n := len(e.Differs(o)); left[o] && o.Name == e.Name && n <= most {
				best, most = o, n-1
			}
		}
		if best != nil {
			delete(left, best)
			pairs = append(pairs, encoderPair{e, best})
		}
		return best != nil
	}
	var rest []*Encoder
	for i := range a.Encoders {
		if e := &a.Encoders[i]; !take(e, 0) {
			rest = append(rest, e)
		}
	}
	for _, e := range rest {
		if !take(e, int(^uint(0)>>1)) {
			pairs = append(pairs, encoderPair{a: e})
		}
	}
	for i := range b.Encoders {
		if e := &b.Encoders[i]; left[e] {
			pairs = append(pairs, encoderPair{b: e})
		}
	}
	slices.SortStableFunc(pairs, func(x, y encoderPair) int {
		return cmp.Compare(cmp.Or(x.a, x.b).Name, cmp.Or(y.a, y.b).Name)
	})
	return pairs
}

// newest returns the newest split of each name.
func (m *Manifest) newest() map[string]*Split {
	out := map[string]*Split{}
	for i := range m.Splits {
		out[m.Splits[i].Name] = &m.Splits[i] // later ones are newer
	}
	return out
}
