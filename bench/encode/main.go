// Command encode measures encoders of texts: it reads commands from standard
// input, so that its peers can take turns with it, and answers each with the
// seconds that it took.
//
//	bare N    encode all texts by N goroutines with an encoder each
//	fill N    the same by a pipeline's fill with N workers, into a new cache
//	dump FILE write the embeddings of all texts, float32, little endian
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/encode/bert"
	"github.com/permafrost-ml/permafrost/encode/onnx"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/source"
)

func main() {
	log.SetFlags(0)
	engine := flag.String("engine", "bert", "bert, bert-int8 or onnx")
	model := flag.String("model", "", "the model's folder")
	texts := flag.String("texts", "", "a file with a JSON string a line")
	batch := flag.Int("batch", 32, "texts a batch")
	flag.Parse()
	b := &bench{batch: *batch}
	if err := errors.Join(b.read(*texts), b.open(*engine, *model)); err != nil {
		log.Fatal(err)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		seconds, err := b.do(in.Text())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(seconds)
	}
}

type bench struct {
	batch    int
	texts    []string
	inputs   []encode.Input // the longest first
	order    []int          // of inputs among texts
	model    encode.Model
	encoders []encode.Encoder
}

func (b *bench) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for dec := json.NewDecoder(f); dec.More(); {
		var s string
		if err := dec.Decode(&s); err != nil {
			return err
		}
		b.order = append(b.order, len(b.texts))
		b.texts = append(b.texts, s)
	}
	slices.SortStableFunc(b.order, func(i, j int) int { return cmp.Compare(len(b.texts[j]), len(b.texts[i])) })
	for _, i := range b.order {
		b.inputs = append(b.inputs, encode.Input{encode.TextValue(b.texts[i])})
	}
	return nil
}

func (b *bench) open(engine, dir string) error {
	switch engine {
	case "bert":
		b.model = bert.Model(dir)
	case "bert-int8":
		b.model = bert.Options{Dir: dir, Precision: "int8"}.Model()
	case "onnx":
		b.model = onnx.Model(dir)
	default:
		return fmt.Errorf("no engine %q", engine)
	}
	return nil
}

func (b *bench) do(command string) (float64, error) {
	verb, arg, _ := strings.Cut(command, " ")
	workers, err := strconv.Atoi(arg)
	if verb == "dump" {
		return 0, b.dump(arg)
	}
	if err != nil {
		return 0, fmt.Errorf("command %q: %w", command, err)
	}
	for len(b.encoders) < workers {
		enc, err := b.model.Open(context.Background(), len(b.encoders))
		if err != nil {
			return 0, err
		}
		b.encoders = append(b.encoders, enc)
	}
	start := time.Now()
	switch verb {
	case "bare":
		_, err = b.bare(workers)
	case "fill":
		err = b.fill(workers)
	default:
		err = fmt.Errorf("command %q", command)
	}
	return time.Since(start).Seconds(), err
}

// bare encodes all texts and returns their embeddings in the order of inputs.
func (b *bench) bare(workers int) ([]float32, error) {
	dim := b.encoders[0].Dim()
	out := make([]float32, len(b.inputs)*dim)
	var next atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				hi := int(next.Add(int64(b.batch)))
				lo := hi - b.batch
				if lo >= len(b.inputs) {
					return
				}
				hi = min(hi, len(b.inputs))
				errs[w] = b.encoders[w].Encode(context.Background(), b.inputs[lo:hi], out[lo*dim:hi*dim])
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func (b *bench) fill(workers int) (err error) {
	dir, err := os.MkdirTemp("", "encode-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := pipeline.New(pipeline.Config[string]{
		Splits:   pipeline.Splits[string]{"train": source.Slice(b.texts)},
		Sample:   func(s string) pipeline.Sample { return pipeline.Group(encode.Text(s), int64(0)) },
		Encoders: pipeline.Encoders{"encoder": b.model},
		Cache:    &pipeline.CacheConfig{SaveDir: dir, BatchSize: b.batch, NumWorkers: workers},
		Head:     head.Empty{}, Loss: loss.Softmax{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, err = p.Fill(context.Background())
	return err
}

func (b *bench) dump(path string) error {
	if _, err := b.do("bare 1"); err != nil {
		return err
	}
	vecs, err := b.bare(1)
	if err != nil {
		return err
	}
	dim := b.encoders[0].Dim()
	sorted := make([]float32, len(vecs))
	for at, i := range b.order {
		copy(sorted[i*dim:(i+1)*dim], vecs[at*dim:])
	}
	buf, err := binary.Append(nil, binary.LittleEndian, sorted)
	if err != nil {
		return err
	}
	return os.WriteFile(path, buf, 0o644)
}
