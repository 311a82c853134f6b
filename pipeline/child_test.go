package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/permafrost-ml/permafrost/encode"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// childEnv holds the job of a process that the tests start of themselves.
const childEnv = "PERMAFROST_TEST_JOB"

// job is a fill in a process of its own.
type job struct {
	Dir     string
	Seed    string // of the dataset
	Salt    string // of the encoder
	Workers int
	// KillBatch ends the process by SIGKILL in that batch of the encoder,
	// KillIdentity when a source is asked for its identity for that time;
	// both count from 1.
	KillBatch    int64
	KillIdentity int64
}

func (j job) config(t testing.TB) pipeline.Config[row] {
	cfg := config(t, j.Dir)
	cfg.Splits = pipeline.Splits[row]{
		"train": source.Slice(rows(60, j.Seed)),
		"val":   source.Slice(rows(20, "v"+j.Seed)),
	}
	m := newModel(j.Salt)
	cfg.Encoders = pipeline.Encoders{"enc": m}
	cfg.Cache.NumWorkers = j.Workers
	var batches, identities atomic.Int64
	if j.KillBatch > 0 {
		m.onBatch = func(context.Context, []encode.Input, []float32) error {
			if batches.Add(1) == j.KillBatch {
				die()
			}
			return nil
		}
	}
	if j.KillIdentity > 0 {
		for name, src := range cfg.Splits {
			cfg.Splits[name] = watched{src, func() {
				if identities.Add(1) == j.KillIdentity {
					die()
				}
			}}
		}
	}
	return cfg
}

// die ends the process as a power cut would, but for what the system holds.
func die() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// watched is a source that tells when it is asked for its identity.
type watched struct {
	source.Source[row]
	asked func()
}

func (w watched) Identity(ctx context.Context) (string, error) {
	w.asked()
	return w.Source.Identity(ctx)
}

// child does a job and prints the report.
func child(text string) int {
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = func() error {
			p, err := pipeline.New(j.config(nil))
			if err != nil {
				return err
			}
			r, err := p.Fill(context.Background())
			if err != nil {
				return err
			}
			return errors.Join(json.NewEncoder(os.Stdout).Encode(r), p.Close())
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// start does a job in another process; wait returns its report, or nil if
// the process was killed.
func (j job) start(t testing.TB) (wait func() *pipeline.FillReport) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(soon(t), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() *pipeline.FillReport {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			if cmd.ProcessState.ExitCode() == -1 && errs.Len() == 0 {
				return nil
			}
			t.Fatalf("%s: %v\n%s", text, err, errs.String())
		}
		var r pipeline.FillReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", out.String(), err)
		}
		return &r
	}
}
