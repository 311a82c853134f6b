package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"github.com/permafrost-ml/permafrost/internal/safetensors"
	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
)

// Names of the checkpoints in [Options].Dir.
const (
	lastCheckpoint = "last.safetensors"
	bestCheckpoint = "best.safetensors"
)

// Files are the names of all that Fit may leave in [Options].Dir.
func Files() []string {
	return []string{lastCheckpoint, bestCheckpoint, MetricsFile, TensorBoardDir, "tmp"} // the last one is the store's
}

const (
	checkpointKey     = "permafrost.checkpoint" // of the metadata
	checkpointVersion = 1
)

// ErrCheckpoint is returned by [Fit] for a checkpoint that cannot be read.
var ErrCheckpoint = errors.New("damaged checkpoint; remove it to begin anew")

// checkpointDoc is what a checkpoint holds besides tensors.
type checkpointDoc struct {
	Version int `json:"version"`
	// Training says which training it is of, see [fit.identity].
	Training map[string]string `json:"training"`
	Position position          `json:"position"`
	Random   [2][]byte         `json:"random"` // of the head and the loss
	Steps    int64             `json:"optimizer_steps"`
	Best     *Best             `json:"best,omitempty"`
	Waited   int               `json:"waited"`
	Epochs   []Epoch           `json:"epochs"`
	// Ints are whole numbers that the loss keeps, by name.
	Ints map[string][]int64 `json:"loss_ints,omitempty"`
	Sum  string             `json:"crc32c"` // of the tensors
}

// checkpoints are the checkpoints of a training.
type checkpoints struct {
	Checkpoints
	dir      *store.Dir
	training map[string]string
	best     int // the epoch in the file of the best; -1: there is none
}

// identity says what decides a training's weights, by name.
func (f *fit) identity(hc head.Config, lc loss.Config) map[string]string {
	o, d := f.opts, f.data
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v) // options with infinities, which are refused elsewhere
		}
		return string(b)
	}
	id := map[string]string{
		"head":      hc.Type() + " " + text(hc.Params()),
		"loss":      lc.Type() + " " + text(lc.Params()),
		"optimizer": o.Optimizer.Type() + " " + text(o.Optimizer.Params()),
		"schedule":  o.Schedule.Type() + " " + text(o.Schedule.Params()),
		"epochs":    fmt.Sprint(o.Epochs),
		"clip_norm": fmt.Sprint(o.ClipNorm),
		"seed":      fmt.Sprint(o.Seed),
		"data":      fmt.Sprintf("%s %v: %d rows of %d values, %d classes, %d batches an epoch", o.Identity, d.Kind(), d.Rows(), d.Dim(), d.Classes(), d.Batches(1)),
	}
	for _, p := range o.Parts {
		if p.Encoder != nil {
			id["encoder "+p.Name] = p.Encoder.Type() + " " + text(p.Encoder.Params())
		}
	}
	if v := o.Validation; v != nil {
		id["validation"] = fmt.Sprintf("every %d epochs, loss %v, metrics %v", v.EveryEpochs, v.Loss, v.Metrics)
	}
	if s := o.EarlyStopping; s != nil {
		id["early_stopping"] = text(s)
	}
	return id
}

// openCheckpoints goes on from the last checkpoint, where there is one of
// this training.
func (f *fit) openCheckpoints(ctx context.Context, training map[string]string) error {
	f.checkpoints = &checkpoints{Checkpoints: *f.opts.Checkpoints, dir: store.NewDir(f.opts.Dir, fileSystem), training: training, best: -1}
	if f.checkpoints.Fresh {
		return nil
	}
	r, err := f.checkpoints.dir.Open(ctx, lastCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open checkpoint: %w", err)
	}
	resume, err := f.load(io.NewSectionReader(r, 0, r.Size()))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("go on from %s: %w", f.checkpoints.path(lastCheckpoint), err)
	}
	if on := f.opts.Callbacks.OnResume; on != nil {
		return on(*resume)
	}
	return nil
}

// fileSystem is where checkpoints are kept; tests make it fail.
var fileSystem store.FS = store.OS{}

func (c *checkpoints) path(name string) string { return filepath.Join(c.dir.String(), name) }

// tensors are the memory of all that goes into a checkpoint: reading into it
// takes a checkpoint up.
func (f *fit) tensors(best bool) []safetensors.Tensor {
	var out []safetensors.Tensor
	add := func(name string, values []float32) {
		out = append(out, safetensors.Tensor{Name: name, Shape: []int{len(values)}, Data: values})
	}
	for i, p := range f.params {
		out = append(out, safetensors.Tensor{Name: f.names[i], Shape: p.Value.Shape(), Data: p.Values()})
	}
	for _, m := range f.optimizer.State().Moments {
		for i, v := range m.Values {
			add("optimizer."+m.Name+"."+f.names[i], v)
		}
	}
	if best {
		for i, v := range f.judge.values {
			add("best."+f.names[i], v)
		}
	}
	return out
}

// lossFloats is the prefix of a loss's own arrays.
const lossFloats = "loss_state."

// save writes the checkpoint of the position.
func (f *fit) save(ctx context.Context, name string) error {
	doc := &checkpointDoc{
		Position: f.at, Steps: f.optimizer.State().Steps,
		Best: f.judge.best, Waited: f.judge.waited, Epochs: f.epochs,
	}
	for i, r := range f.random {
		doc.Random[i], _ = r.MarshalBinary() // it has no errors
	}
	tensors := f.tensors(true)
	if l, ok := f.loss.(loss.Stateful); ok {
		for _, s := range l.State() {
			if s.Ints != nil {
				if doc.Ints == nil {
					doc.Ints = map[string][]int64{}
				}
				doc.Ints[s.Name] = s.Ints
				continue
			}
			tensors = append(tensors, safetensors.Tensor{Name: lossFloats + s.Name, Shape: []int{len(s.Floats)}, Data: s.Floats})
		}
	}
	if err := f.put(ctx, name, tensors, doc); err != nil {
		return err
	}
	f.saved = f.checkpoints.path(name)
	if on := f.opts.Callbacks.OnCheckpoint; on != nil {
		return on(Checkpoint{Path: f.saved, Epoch: f.at.Epoch, Step: f.at.Steps})
	}
	return nil
}

// saveBest writes the weights of the best epoch, unless the file has them.
func (f *fit) saveBest(ctx context.Context) error {
	if f.judge.best == nil || f.judge.best.Epoch == f.checkpoints.best {
		return nil
	}
	var tensors []safetensors.Tensor
	for i, p := range f.params {
		tensors = append(tensors, safetensors.Tensor{Name: f.names[i], Shape: p.Value.Shape(), Data: f.judge.values[i]})
	}
	err := f.put(ctx, bestCheckpoint, tensors, &checkpointDoc{Best: f.judge.best, Position: position{Epoch: f.judge.best.Epoch}})
	if err == nil {
		f.checkpoints.best = f.judge.best.Epoch
	}
	return err
}

// put writes a checkpoint in one step: another one of its name stays until
// the new one is whole and durable.
func (f *fit) put(ctx context.Context, name string, tensors []safetensors.Tensor, doc *checkpointDoc) error {
	doc.Version, doc.Training, doc.Sum = checkpointVersion, f.checkpoints.training, sumOf(tensors)
	text, err := json.Marshal(doc)
	var b bytes.Buffer
	if err == nil {
		err = safetensors.Write(&b, tensors, map[string]string{"format": "pt", checkpointKey: string(text)})
	}
	if err == nil {
		err = store.Put(ctx, f.checkpoints.dir, name, b.Bytes(), true)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", f.checkpoints.path(name), err)
	}
	return nil
}

// sumOf is the checksum of tensors: over names and values, by name.
func sumOf(tensors []safetensors.Tensor) string {
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b safetensors.Tensor) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, t := range tensors {
		_, _ = io.WriteString(h, t.Name)
		_ = safetensors.WriteValues(h, t.Data) // a hash has no errors
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32()))
}

// load takes a checkpoint up if it is of this training.
func (f *fit) load(r io.Reader) (*Resume, error) {
	read := map[string]safetensors.Tensor{}
	metadata, err := safetensors.Read(r, func(name string, shape []int) ([]float32, error) {
		n := 1
		for _, s := range shape {
			n *= s
		}
		t := safetensors.Tensor{Name: name, Shape: shape, Data: make([]float32, n)}
		read[name] = t
		return t.Data, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var doc checkpointDoc
	if err := json.Unmarshal([]byte(metadata[checkpointKey]), &doc); err != nil {
		return nil, fmt.Errorf("%w: metadata: %w", ErrCheckpoint, err)
	}
	if doc.Version != checkpointVersion {
		return nil, fmt.Errorf("it is of version %d; this is version %d", doc.Version, checkpointVersion)
	}
	if doc.Sum != sumOf(slices.Collect(maps.Values(read))) {
		return nil, fmt.Errorf("%w: the checksum is wrong", ErrCheckpoint)
	}
	res := &Resume{Path: f.checkpoints.path(lastCheckpoint), Epoch: doc.Position.Epoch, Step: doc.Position.Steps}
	if res.Differs = differs(doc.Training, f.checkpoints.training); res.Differs != nil {
		return res, nil
	}
	if err := f.take(&doc, read); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	f.saved = res.Path
	return res, nil
}

// take makes the training that of a checkpoint.
func (f *fit) take(doc *checkpointDoc, read map[string]safetensors.Tensor) error {
	if doc.Best != nil {
		f.judge.keep() // memory for what is read
	}
	for _, t := range f.tensors(doc.Best != nil) {
		from, ok := read[t.Name]
		if !ok || len(from.Data) != len(t.Data) {
			return fmt.Errorf("%q has %d values where %d are needed", t.Name, len(from.Data), len(t.Data))
		}
		copy(t.Data, from.Data)
		delete(read, t.Name)
	}
	if l, ok := f.loss.(loss.Stateful); ok {
		var state []loss.State
		for _, s := range l.State() {
			if ints, ok := doc.Ints[s.Name]; ok {
				s = loss.State{Name: s.Name, Ints: ints}
			} else {
				s = loss.State{Name: s.Name, Floats: read[lossFloats+s.Name].Data}
			}
			state = append(state, s)
		}
		if err := l.SetState(state); err != nil {
			return fmt.Errorf("loss: %w", err)
		}
	}
	for i, r := range f.random {
		if err := r.UnmarshalBinary(doc.Random[i]); err != nil {
			return err
		}
	}
	f.optimizer.State().Steps = doc.Steps
	f.judge.best, f.judge.waited = doc.Best, doc.Waited
	f.at, f.epochs = doc.Position, doc.Epochs
	if doc.Best != nil {
		f.checkpoints.best = math.MinInt // the file may be of a later epoch: it is written again
	}
	return nil
}

// differs names what differs between two trainings.
func differs(then, now map[string]string) (out []string) {
	names := maps.Clone(then)
	maps.Copy(names, now)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if then[name] != now[name] {
			out = append(out, fmt.Sprintf("%s: %s -> %s", name, then[name], now[name]))
		}
	}
	return out
}
