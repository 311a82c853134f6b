package cachesink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// shardSender emits what is to be encoded of one shard after the other.
type shardSender struct {
	f     *Fill
	e     *encoderFill
	emit  func(arrow.Record) error
	aside []*shardJob  // which other fills are at
	w     *shardWriter // of shards in which everything is converted, nil for none
	conv  *converter
}

func (s *shardSender) drop() (err error) {
	for _, j := range s.aside {
		err = errors.Join(err, j.inputs.close())
	}
	if s.w != nil {
		err = errors.Join(err, s.w.drop(), s.conv.close())
	}
	return err
}

// send plans a shard, and does what is to be done for it, or puts it aside
// while another fill does.
func (s *shardSender) send(ctx context.Context, j *shardJob) error {
	e, p := s.e, j.plan
	e.mu.Lock()
	p.name = fmt.Sprintf("%s/%05d%s", e.entry.Folder, len(e.entry.Shards)+len(e.plans), p.suffix())
	e.plans = append(e.plans, p)
	e.mu.Unlock()
	ok, err := s.try(ctx, j, false)
	if ok || err != nil {
		return errors.Join(err, j.inputs.close())
	}
	s.aside = append(s.aside, j)
	return j.inputs.park(ctx)
}

// settle ends when no shard is aside any more.
func (s *shardSender) settle(ctx context.Context) error {
	for len(s.aside) > 0 {
		var left []*shardJob
		for i, j := range s.aside {
			ok, err := s.try(ctx, j, true)
			if ok {
				err = errors.Join(err, j.inputs.close())
			} else {
				left = append(left, j)
			}
			if err != nil {
				s.aside = append(left, s.aside[i+1:]...)
				return err
			}
		}
		waits := len(left) == len(s.aside)
		if s.aside = left; waits {
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// try emits the object batches of a shard, unless its file is there, can be
// written without an encoder, or another fill is at it: then ok is false.
func (s *shardSender) try(ctx context.Context, j *shardJob, again bool) (ok bool, err error) {
	f, e, p := s.f, s.e, j.plan
	held, took, other := f.leases.claim(ctx, p.task(), p.name)
	done, ok, err := adopt(ctx, f.c.st, f.mem, p, other)
	if err == nil && !ok && held {
		err = f.reserve(e, p, j.inputs.bytes())
	}
	switch {
	case err != nil || !ok && !held:
		return false, err
	case ok:
		f.count(func(st *FillStats) {
			es := st.Encoders[e.Name]
			es.Resumed += p.rows
			st.Encoders[e.Name] = es
		})
	case p.converts(0) && p.run(0, int(p.rows)) == int(p.rows):
		if done, err = s.convert(ctx, p); err != nil {
			return false, err
		}
	default:
		return true, s.encode(ctx, j, took || again)
	}
	e.memo.discard(ctx, p.id)
	e.mu.Lock()
	defer e.mu.Unlock()
	p.result = &done
	p.release()
	return true, nil
}

// encode emits the objects of a shard. look says that others may have worked
// at it since the fill began.
func (s *shardSender) encode(ctx context.Context, j *shardJob, look bool) (err error) {
	e, p := s.e, j.plan
	if p.memo, err = e.memo.begin(ctx, p, look); err != nil {
		return err
	}
	e.mu.Lock()
	e.queue = append(e.queue, p)
	e.mu.Unlock()
	if err := s.objects(p, j.inputs.reader()); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p.sent = true
	if p.done {
		p.release()
	}
	return nil
}

// An object batch has the objects of windowBatches batches of an encoder, so
// that it can put those of one length together, or fewer whole ones once their
// inputs have windowBytes.
const (
	windowBatches = 16
	windowBytes   = 1 << 20
)

// windowCut says where the object batches of a shard end.
type windowCut struct {
	batchSize  int
	rows, size int // of the object batch so far, and its bytes
}

// ends takes an object by the size of its input, and says whether its batch
// ends with it.
func (w *windowCut) ends(input int) bool {
	w.rows++
	w.size += input
	if w.rows < windowBatches*w.batchSize && (w.rows%w.batchSize != 0 || w.size < windowBytes) {
		return false
	}
	w.rows, w.size = 0, 0
	return true
}

// objects emits the objects of a shard that are to be encoded.
func (s *shardSender) objects(p *shardPlan, next func() ([]byte, error)) error {
	b := array.NewRecordBuilder(s.f.mem, s.f.objects)
	defer b.Release()
	idCol, inCol := b.Field(0).(*array.FixedSizeBinaryBuilder), b.Field(1).(*array.BinaryBuilder)
	cut := windowCut{batchSize: s.e.BatchSize}
	for at := 0; at < int(p.rows); {
		n := p.run(at, int(p.rows))
		for id := range slices.Chunk(p.ids[at*idBytes:(at+n)*idBytes], idBytes) {
			if p.converts(at) {
				break
			}
			input, err := next()
			if err != nil {
				return err
			}
			idCol.Append(id)
			inCol.Append(input)
			if cut.ends(len(input)) {
				if err := s.emit(b.NewRecord()); err != nil {
					return err
				}
			}
		}
		at += n
	}
	if idCol.Len() > 0 {
		return s.emit(b.NewRecord())
	}
	return nil
}

// convert writes a shard whose objects are all stored in float32.
func (s *shardSender) convert(ctx context.Context, p *shardPlan) (none Shard, err error) {
	if s.w == nil {
		if s.w, err = newShardWriter(s.f.c.st, s.f.mem, &s.e.entry, s.e.BatchSize); err != nil {
			return none, err
		}
		s.conv = newConverter(s.f.c, s.f.mem, s.e.full.entry)
	}
	if err := s.w.open(ctx, p); err != nil {
		return none, err
	}
	if err := s.conv.write(ctx, s.w, p, 0, int(p.rows)); err != nil {
		return none, err
	}
	return s.w.close(ctx, p)
}

// finish notes that a shard is there, and all its embeddings were taken. Its
// ids are no longer needed, if the stage that emits its objects has come to
// their end.
func (e *encoderFill) finish(p *shardPlan, s Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.result, p.done = &s, true
	if p.sent {
		p.release()
	}
}
