package train_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/permafrost-ml/permafrost/internal/store"
	"github.com/permafrost-ml/permafrost/internal/store/storetest"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/pipeline/train/trainable"
)

// remembering declares a loss with a state: its gradients depend on all
// batches before.
type remembering struct{ loss.MultipleNegativesRanking }

func (c remembering) New(dim, classes int, rng *rand.Rand) (loss.Loss, error) {
	l, err := c.MultipleNegativesRanking.New(dim, classes, rng)
	return &memorized{Loss: l, mean: make([]float32, 2)}, err
}

type memorized struct {
	loss.Loss
	mean []float32
	seen []int64
}

func (m *memorized) Compute(b *loss.Batch, grad bool) (loss.Result, error) {
	res, err := m.Loss.Compute(b, grad)
	if err != nil || !grad {
		return res, err
	}
	m.mean[0] = 0.9*m.mean[0] + 0.1*float32(res.Value)
	m.seen = append(m.seen, int64(b.Rows()))
	scale := m.mean[0] + float32(len(m.seen))
	for i := range res.DA.Float32s() {
		res.DA.Float32s()[i] *= scale
	}
	return res, nil
}

func (m *memorized) State() []loss.State {
	return []loss.State{{Name: "mean", Floats: m.mean}, {Name: "seen", Ints: m.seen}}
}

func (m *memorized) SetState(s []loss.State) error {
	if len(s) != 2 || len(s[0].Floats) != 2 {
		return fmt.Errorf("state %v", s)
	}
	m.mean, m.seen = slices.Clone(s[0].Floats), slices.Clone(s[1].Ints)
	return nil
}

// long is a training of 50 steps that uses all there is.
type long struct {
	name string
	data *memory
	head head.Config
	loss loss.Config
	opts train.Options
}

func longOnes() []long {
	measure := func(_ context.Context, s train.Snapshot) (map[string]float64, error) {
		return map[string]float64{train.ValLoss: float64(s.Head.Out()), "wave": math.NaN(), "up": 1}, nil
	}
	read := toyPairs(80, 6, 16)
	for i := range 80 {
		read.texts = append(read.texts, fmt.Sprintf("number %d", i))
	}
	return []long{
		{
			"encoders", read,
			head.SkipConnection{Dropout: 0.1},
			loss.MultipleNegativesRanking{},
			train.Options{
				Epochs: 10, Optimizer: train.AdamW{LR: 1e-2},
				Parts: []train.Part{
					{Name: "bag", Encoder: trainable.NgramBag{Dim: 4, Buckets: 100}},
					{Name: "frozen", Dim: 2},
					{Name: "linear", Dim: 4, Encoder: trainable.Projection{Dim: 3}},
				},
			},
		},
		{
			"pairs", toyPairs(80, 12, 16),
			head.SkipConnection{Dropout: 0.2, SkipDropout: 0.1, Layers: 2},
			remembering{},
			train.Options{
				Epochs: 10, Seed: 5, Optimizer: train.AdamW{LR: 3e-2}, ClipNorm: 0.5,
				Schedule:      train.Cosine{Warmup: train.Warmup{Fraction: 0.2}},
				Validation:    &train.Validation{EveryEpochs: 2, Measure: measure},
				EarlyStopping: &train.EarlyStopping{Monitor: train.TrainLoss, Patience: 3, MinDelta: 0.01},
			},
		},
		{
			"groups", toyGroups(80, 12, 4, 16),
			head.SkipConnection{Dropout: 0.3},
			loss.Softmax{},
			train.Options{
				Epochs: 10, Optimizer: train.SGD{LR: 1e-2, Momentum: 0.9, Nesterov: true}, Schedule: train.Linear{},
				Validation: &train.Validation{Measure: measure},
			},
		},
	}
}

// outcome is all that must not depend on interruptions.
func outcome(t *testing.T, res *train.Result) string {
	t.Helper()
	var b strings.Builder
	params := slices.Concat(res.Head.Parameters(), res.Loss.Parameters())
	if res.Encoders != nil {
		params = append(params, res.Encoders.Parameters()...)
	}
	for _, p := range params {
		fmt.Fprintf(&b, "%s %x\n", p.Name, p.Values())
	}
	for _, e := range res.Epochs {
		e.Duration = 0
		fmt.Fprintf(&b, "%+v\n", e)
	}
	best, _ := json.Marshal(res.Best)
	fmt.Fprintf(&b, "%s %v", best, res.Stopped)
	return b.String()
}

// lines are those of a log without what the clock says.
func lines(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, train.MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range bytes.Lines(text) {
		var r train.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		r.Seconds, r.EpochSeconds, r.ValidationSeconds = 0, 0, 0
		fmt.Fprintf(&out, "%+v\n", r)
	}
	return out.String()
}

var errKilled = errors.New("killed")

// killedAt makes the training end without a word after some steps.
func (l long) killedAt(steps int) train.Options {
	o := l.opts
	o.Callbacks.OnStep = func(train.Step) error {
		if steps--; steps == 0 {
			return errKilled
		}
		return nil
	}
	return o
}

// unsynced is a filesystem that leaves the syncing out, which takes most of the
// time of small checkpoints.
type unsynced struct{ store.OS }

type unsyncedFile struct{ store.File }

func (unsynced) SyncDir(string) error { return nil }
func (unsyncedFile) Sync() error      { return nil }
func (u unsynced) CreateTemp(dir, pattern string) (store.File, error) {
	f, err := u.OS.CreateTemp(dir, pattern)
	return unsyncedFile{f}, err
}

// TestResumeIsExact: a training that ends at any step and goes on from its
// last checkpoint has the same weights, epochs, best and log as one that was
// never interrupted, whatever steps lie between checkpoints.
func TestResumeIsExact(t *testing.T) {
	train.Through(t, unsynced{})
	for _, l := range longOnes() {
		l.opts.Log.EverySteps = 3
		plain := l.opts
		plain.Dir = t.TempDir()
		res, err := train.Fit(t.Context(), l.data, l.head, l.loss, plain)
		if err != nil {
			t.Fatal(err)
		}
		want, wantLines := outcome(t, res), lines(t, plain.Dir)
		for _, every := range []int{1, 7} {
			for kill := 1; kill < 50; kill += 7 - every/3 {
				dir, resumed := t.TempDir(), int64(0)
				l.opts.Dir, l.opts.Checkpoints = dir, &train.Checkpoints{EverySteps: every, EveryEpochs: 3}
				if _, err := train.Fit(t.Context(), l.data, l.head, l.loss, l.killedAt(kill)); !errors.Is(err, errKilled) {
					if kill > 20 && err == nil {
						break // early stopping came first
					}
					t.Fatal(err)
				}
				again := l.opts
				again.Callbacks.OnResume = func(r train.Resume) error {
					resumed = r.Step
					return nil
				}
				res, err := train.Fit(t.Context(), l.data, l.head, l.loss, again)
				if err != nil {
					t.Fatal(err)
				}
				// OnStep comes before the step's own checkpoint.
				if behind := int64(kill) - resumed; behind < 1 || behind > int64(every) {
					t.Errorf("%s: killed at step %d, gone on from %d", l.name, kill, resumed)
				}
				if got := outcome(t, res); got != want {
					t.Fatalf("%s: killed at step %d, checkpoints every %d:\n%.300s\nwant\n%.300s", l.name, kill, every, got, want)
				}
				if got := lines(t, dir); got != wantLines {
					t.Fatalf("%s: killed at step %d: the log is\n%swant\n%s", l.name, kill, got, wantLines)
				}
			}
		}
	}
}

// TestContextEndsWithACheckpoint: nothing is trained twice after the context
// ended, also where no checkpoint was due.
func TestContextEndsWithACheckpoint(t *testing.T) {
	l := longOnes()[1]
	res, err := train.Fit(t.Context(), l.data, l.head, l.loss, l.opts)
	if err != nil {
		t.Fatal(err)
	}
	want := outcome(t, res)
	l.opts.Dir, l.opts.Checkpoints = t.TempDir(), &train.Checkpoints{EveryEpochs: 100}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	first, steps := l.opts, 0
	first.Callbacks.OnStep = func(train.Step) error {
		if steps++; steps == 13 {
			cancel(cause)
		}
		return nil
	}
	if _, err := train.Fit(ctx, l.data, l.head, l.loss, first); !errors.Is(err, cause) {
		t.Fatal(err)
	}
	var at train.Resume
	l.opts.Callbacks.OnResume = func(r train.Resume) error { at = r; return nil }
	res, err = train.Fit(t.Context(), l.data, l.head, l.loss, l.opts)
	if err != nil || outcome(t, res) != want || at.Step != 13 || at.Epoch != 2 {
		t.Errorf("gone on from %+v: %v, another outcome: %v", at, err, err == nil)
	}
	// What is done is not done again, and another training is not gone on from.
	l.opts.Callbacks.OnStep = func(train.Step) error { return errKilled }
	if res, err = train.Fit(t.Context(), l.data, l.head, l.loss, l.opts); err != nil || outcome(t, res) != want {
		t.Errorf("a finished training trains: %v", err)
	}
	l.opts.ClipNorm = 0.25
	if _, err = train.Fit(t.Context(), l.data, l.head, l.loss, l.opts); !errors.Is(err, errKilled) || !slices.Equal(at.Differs, []string{"clip_norm: 0.5 -> 0.25"}) {
		t.Errorf("another training: %v, differs in %q", err, at.Differs)
	}
	l.opts.ClipNorm = 0.5
	l.opts.Checkpoints.Fresh = true
	if _, err = train.Fit(t.Context(), l.data, l.head, l.loss, l.opts); !errors.Is(err, errKilled) {
		t.Errorf("a fresh training: %v", err)
	}
}

// TestCheckpointsAreWhole: whatever operation on the files fails, the
// checkpoint before is there, and a damaged one is an error.
func TestCheckpointsAreWhole(t *testing.T) {
	l := longOnes()[2]
	l.opts.Epochs, l.opts.Log.NoTensorBoard = 2, true
	l.opts.Checkpoints = &train.Checkpoints{EverySteps: 4}
	plain := l.opts
	plain.Checkpoints = nil
	res, err := train.Fit(t.Context(), l.data, l.head, l.loss, plain)
	if err != nil {
		t.Fatal(err)
	}
	want := outcome(t, res)
	for k := 1; ; k++ {
		l.opts.Dir = t.TempDir()
		fsys := &storetest.FS{FS: unsynced{}, FailAt: k, Err: fs.ErrPermission}
		train.Through(t, fsys)
		_, err := train.Fit(t.Context(), l.data, l.head, l.loss, l.opts)
		train.Through(t, unsynced{})
		if fsys.OpenFiles() > 0 {
			t.Errorf("%v: %d files stay open", fsys.Failed(), fsys.OpenFiles())
		}
		if len(fsys.Failed()) == 0 {
			if err != nil || k < 15 {
				t.Errorf("after %d operations: %v", k, err)
			}
			break
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v: %v", fsys.Failed(), err)
		}
		res, err := train.Fit(t.Context(), l.data, l.head, l.loss, l.opts)
		if err != nil || outcome(t, res) != want {
			t.Errorf("after a failed %v: %v, another outcome: %v", fsys.Failed(), err, err == nil)
		}
	}
	path := filepath.Join(l.opts.Dir, "last.safetensors")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"cut":     good[:len(good)-1],
		"flipped": append(slices.Clone(good[:len(good)-9]), append([]byte{good[len(good)-9] ^ 1}, good[len(good)-8:]...)...),
		"empty":   {},
		"foreign": []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"),
	} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := train.Fit(t.Context(), l.data, l.head, l.loss, l.opts); !errors.Is(err, train.ErrCheckpoint) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDivergedKeepsTheCheckpoint: the checkpoint before a step that is not
// finite stays, and the error names it.
func TestDivergedKeepsTheCheckpoint(t *testing.T) {
	opts := train.Options{
		Epochs: 50, Optimizer: train.SGD{LR: 1e12}, Dir: t.TempDir(), Checkpoints: &train.Checkpoints{EverySteps: 1},
	}
	last := int64(0)
	opts.Callbacks.OnCheckpoint = func(c train.Checkpoint) error { last = c.Step; return nil }
	_, err := train.Fit(t.Context(), toyGroups(64, 8, 2, 16), head.SkipConnection{}, loss.Softmax{}, opts)
	var diverged *train.DivergedError
	if !errors.As(err, &diverged) {
		t.Fatal(err)
	}
	path := filepath.Join(opts.Dir, "last.safetensors")
	if diverged.Checkpoint != path || !strings.Contains(err.Error(), "the last good checkpoint is "+path) || len(diverged.Rows) == 0 || !diverged.Numbered {
		t.Errorf("%v", err)
	}
	if step := int64(4*diverged.Epoch + diverged.Step); last < 1 || last > step {
		t.Errorf("the last checkpoint is of step %d, diverged at step %d", last, step)
	}
	opts.Callbacks.OnResume = func(r train.Resume) error {
		if r.Step != last || r.Differs != nil {
			t.Errorf("%+v, want step %d", r, last)
		}
		return errKilled
	}
	if _, err := train.Fit(t.Context(), toyGroups(64, 8, 2, 16), head.SkipConnection{}, loss.Softmax{}, opts); !errors.Is(err, errKilled) {
		t.Error(err)
	}
}
