package cachesink

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
)

// digest is the beginning of a SHA-256.
type digest = [16]byte

// errEnough ends a reading that has found all that it looked for, or whose
// consumer has gone.
var errEnough = errors.New("enough was read")

func enough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// objectDiffer compares the objects of two encoders.
type objectDiffer struct {
	*diffRun
	d      *EncoderDiff
	known  idTable      // objects by number: those of a, then those that only b has
	values list[digest] // of a's embeddings, by number; empty where they are not compared
	met    bitmap       // numbers of those that b has, too
}

// encoder compares the embeddings of an encoder; either may be nil.
func (run *diffRun) encoder(ctx context.Context, ea, eb *Encoder) (*EncoderDiff, error) {
	none := func() ObjectDiff { return ObjectDiff{IDs: []string{}} }
	d := &EncoderDiff{Differs: []string{}, OnlyA: none(), OnlyB: none(), Unequal: none()}
	o := &objectDiffer{diffRun: run, d: d}
	defer o.close()
	if ea != nil && eb != nil {
		d.Differs = append(d.Differs, ea.Differs(eb)...)
		d.Compared = ea.Fingerprint == eb.Fingerprint && ea.DType == eb.DType && ea.Dim == eb.Dim
	}
	if ea != nil {
		d.Name, d.A = ea.Name, ea.version()
		if err := o.first(ctx, ea); err != nil {
			return d, err
		}
	}
	inA := o.known.len()
	if eb != nil {
		d.Name, d.B = eb.Name, eb.version()
		if err := o.second(ctx, eb, inA); err != nil {
			return d, err
		}
		d.B.Objects = d.Both + d.OnlyB.Count
	}
	if ea == nil {
		return d, nil
	}
	d.A.Objects, d.OnlyA.Count = inA, inA-d.Both
	if d.OnlyA.Count == 0 || run.examples == 0 {
		return d, nil
	}
	err := run.a.eachObject(ctx, ea, func(int64) {}, func(id []byte, _ *storedRows, _ int) error {
		if at, _ := o.known.find((*[32]byte)(id)); o.met.set(at) {
			d.OnlyA.example(id, run.examples)
		}
		if len(d.OnlyA.IDs) == run.examples {
			return errEnough
		}
		return nil
	})
	return d, enough(err)
}

func (o *objectDiffer) close() {
	o.known.close()
	o.values.free()
}

func (e *Encoder) version() *EncoderVersion {
	return &EncoderVersion{Fingerprint: e.Fingerprint, Folder: e.Folder, DType: e.DType}
}

// first notes the objects of a.
func (o *objectDiffer) first(ctx context.Context, e *Encoder) error {
	var buf []byte
	return o.a.eachObject(ctx, e, o.read, func(id []byte, vecs *storedRows, row int) error {
		_, fresh, err := o.known.insert((*[32]byte)(id), o.known.len())
		if err != nil || !fresh || !o.d.Compared {
			return err
		}
		buf = vecs.appendRow(buf[:0], row)
		sum := digestOf(buf)
		return o.values.append(&sum)
	})
}

// second counts the objects of b against those of a, which were so many.
func (o *objectDiffer) second(ctx context.Context, e *Encoder, inA int64) error {
	var buf []byte
	d := o.d
	return o.b.eachObject(ctx, e, o.read, func(id []byte, vecs *storedRows, row int) error {
		at, fresh, err := o.known.insert((*[32]byte)(id), o.known.len())
		switch {
		case err != nil:
			return err
		case fresh:
			d.OnlyB.add(id, o.examples)
			return nil
		case at >= inA || !o.met.set(at):
			return nil // it stands in two shards
		}
		d.Both++
		if !d.Compared {
			return nil
		}
		buf = vecs.appendRow(buf[:0], row)
		if want := o.values.bytes()[at*int64(len(digest{})):]; digestOf(buf) != digest(want) {
			d.Unequal.add(id, o.examples)
		}
		return nil
	})
}

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:])
}

// eachObject calls fn with every object of an encoder, in the order of the
// shards: its id and the number of its row in a record batch. After each
// shard it calls read with its size.
func (c *Cache) eachObject(ctx context.Context, e *Encoder, read func(bytes int64), fn func(id []byte, vecs *storedRows, row int) error) error {
	for _, s := range e.Shards {
		err := readShard(ctx, c.st, c.mem, e, s.File, func(rec arrow.Record) error {
			ids, vecs, err := shardColumns(rec, e, s)
			if err != nil {
				return err
			}
			for row := range int(rec.NumRows()) {
				if err := fn(ids[row*idBytes:(row+1)*idBytes], vecs, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		read(s.Bytes)
	}
	return nil
}

// shardColumns returns the ids and the embeddings of a shard's record batch.
func shardColumns(rec arrow.Record, e *Encoder, s Shard) (ids []byte, vecs *storedRows, err error) {
	if ids, err = idColumn(rec); err != nil {
		return nil, nil, errors.Join(ErrCorrupt, err)
	}
	v, err := storedColumns(rec, e.DType, e.Dim)
	if err != nil {
		return nil, nil, errors.Join(ErrCorrupt, err)
	}
	if int64(len(ids)) != rec.NumRows()*idBytes {
		return nil, nil, corrupt(s.Name, "%d ids for %d rows", len(ids)/idBytes, rec.NumRows())
	}
	return ids, &v, nil
}

// appendRow appends the bytes of a row as they are stored.
func (e *storedRows) appendRow(b []byte, row int) []byte {
	from, to := row*e.dim, (row+1)*e.dim
	switch {
	case e.f32 != nil:
		return append(b, arrow.Float32Traits.CastToBytes(e.f32[from:to])...)
	case e.f16 != nil:
		return append(b, arrow.Uint16Traits.CastToBytes(e.f16[from:to])...)
	default:
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.scales[row]))
		return append(b, arrow.Int8Traits.CastToBytes(e.i8[from:to])...)
	}
}
