// Command train is the module's side of bench/train/run: it runs a config and
// trains an epoch each time that it reads a line, whose seconds it prints.
//
//	train CONFIG FOLDER [KEY=VALUE...]
//
// Before the first epoch it prints the seconds that the evaluation of the
// embeddings took. FOLDER gets what a peer needs to train on the same: the
// embeddings of both sides, labels, the rows of the first epochs' order, the
// first weights and those after 50 steps. A line of "profile FILE" trains 50
// epochs under a profile of the processor.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"gorgonia.org/tensor"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
	"github.com/permafrost-ml/permafrost/source"
)

const (
	checkedSteps = 50
	dumpedEpochs = 8 // hold that many steps of each recipe

	profiledEpochs = 50
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: train CONFIG FOLDER [KEY=VALUE...]")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(err)
	}
}

var errEnough = errors.New("no more lines")

func run(ctx context.Context, config, folder string, sets []string) error {
	cfg, err := pipeline.LoadConfig(config, sets...)
	if err != nil {
		return err
	}
	d := &driver{folder: folder, lines: bufio.NewScanner(os.Stdin)}
	// The weights are seen where they are made.
	cfg.Head, cfg.Loss = watchedHead{cfg.Head, d}, watchedLoss{cfg.Loss, d}
	cfg.Train.Epochs = 1 << 30
	cfg.Train.Callbacks = train.Callbacks{OnStep: d.step, OnEpoch: d.epoch}
	seconds := -1.0
	var began time.Time
	cfg.OnProgress = func(p pipeline.Progress) {
		switch {
		case p.Phase == "eval":
			began = time.Now()
		case p.Phase == "train" && seconds < 0:
			seconds = time.Since(began).Seconds()
			d.err = d.start(seconds)
		}
	}
	d.dump = func() error { return dump(ctx, cfg, folder) }
	p, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Run(ctx)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

type driver struct {
	folder     string
	lines      *bufio.Scanner
	head, loss []head.Param // of those made last: the ones that are trained
	dump       func() error
	err        error
	steps      int
	left       int // epochs of the profile that are to come
	file       *os.File
}

// watchedHead is a head whose first weights are written, and known later.
type watchedHead struct {
	head.Config
	d *driver
}

func (w watchedHead) New(in int, rng *rand.Rand) (head.Head, error) {
	h, err := w.Config.New(in, rng)
	if err != nil {
		return nil, err
	}
	w.d.head = h.Parameters()
	return h, w.d.save("first", w.d.head)
}

// watchedLoss is the same for a loss.
type watchedLoss struct {
	loss.Config
	d *driver
}

func (w watchedLoss) New(dim, classes int, rng *rand.Rand) (loss.Loss, error) {
	l, err := w.Config.New(dim, classes, rng)
	if err != nil {
		return nil, err
	}
	w.d.loss = l.Parameters()
	return l, w.d.save("first", w.d.loss)
}

// start prints how long the evaluation took once the data lies there.
func (d *driver) start(seconds float64) error {
	if err := d.dump(); err != nil {
		return err
	}
	fmt.Println(seconds)
	return d.next()
}

func (d *driver) step(train.Step) error {
	if d.err != nil {
		return d.err
	}
	if d.steps++; d.steps == checkedSteps {
		return errors.Join(d.save("after", d.head), d.save("after", d.loss))
	}
	return nil
}

func (d *driver) epoch(e train.Epoch) error {
	if d.left > 1 {
		d.left--
		return nil
	}
	if d.file != nil {
		pprof.StopCPUProfile()
		if err := d.file.Close(); err != nil {
			return err
		}
		d.file, d.left = nil, 0
	}
	fmt.Println(e.Duration.Seconds())
	return d.next()
}

// next waits for a line.
func (d *driver) next() error {
	if !d.lines.Scan() {
		return errors.Join(errEnough, d.lines.Err())
	}
	name, ok := strings.CutPrefix(d.lines.Text(), "profile ")
	if !ok {
		return nil
	}
	var err error
	if d.file, err = os.Create(name); err != nil {
		return err
	}
	d.left = profiledEpochs
	return pprof.StartCPUProfile(d.file)
}

// save writes weights as the float32 that they are, a file each.
func (d *driver) save(when string, params []head.Param) error {
	for _, p := range params {
		if err := write(filepath.Join(d.folder, when+"-"+p.Name), p.Values()); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, values any) error {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, values); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o666)
}

// dump writes what the peer needs, from a pipeline of its own.
func dump(ctx context.Context, cfg pipeline.Config[source.Fields], folder string) error {
	cfg.Train.Sequential = true
	cfg.NoEncode, cfg.OnProgress = true, nil
	p, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	defer p.Close()
	if _, err := p.Fill(ctx); err != nil {
		return err
	}
	var sides [2][]float32
	labels := []string{} // of groups
	rows := 0
	for b, err := range p.Epoch(ctx, "train", 0) {
		if err != nil {
			return err
		}
		rows += b.Rows()
		for i, t := range []*tensor.Dense{b.A("content"), b.B("content")} {
			if t != nil {
				sides[i] = append(sides[i], t.Data().([]float32)...)
			}
		}
		if at := b.Record().Schema().FieldIndices(cachesink.ColumnLabel); len(at) == 1 {
			for i, column := 0, b.Record().Column(at[0]); i < column.Len(); i++ {
				labels = append(labels, strings.Clone(column.ValueStr(i)))
			}
		}
	}
	for i, name := range []string{"a", "b"} {
		if err := write(filepath.Join(folder, name), sides[i]); err != nil {
			return err
		}
	}
	order := make([]int64, rows*dumpedEpochs)
	for e := range dumpedEpochs {
		p := source.NewPermutation(int64(rows), cfg.Seed, e)
		p.Fill(order[e*rows:(e+1)*rows], 0)
	}
	if err := write(filepath.Join(folder, "order"), order); err != nil {
		return err
	}
	facts, err := json.Marshal(map[string]any{
		"rows": rows, "dim": len(sides[0]) / rows, "batch": cfg.Train.BatchSize, "steps": checkedSteps, "labels": labels,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "facts.json"), facts, 0o666)
}
