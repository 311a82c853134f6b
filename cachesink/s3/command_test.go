package s3

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programEnv names the program pipeline-s3; .ci/full.d/s3 builds it.
const programEnv = "PERMAFROST_TEST_PIPELINE_S3"

// TestCommand is a user's session with the program.
func TestCommand(t *testing.T) {
	program := os.Getenv(programEnv)
	if program == "" {
		t.Skipf("%s names no program", programEnv)
	}
	place := "s3://" + bucket(t) + "/cache"
	useGateway(t, gateway.url)
	dir := t.TempDir()
	run := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		got := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != code {
			t.Errorf("%s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	says := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("no %q in: %s", want, text)
		}
	}
	config := `version: 1
dataset:
  splits: {train: {jsonl: train.jsonl}}
  pair: {a: q, b: a}
encoders: {enc: {type: static}}
cache: {save_dir: "%s"}
train: {epochs: 1}
loss: {type: multiple_negatives_ranking}
head: {type: skip_connection}
`
	var data strings.Builder
	for i := range 40 {
		fmt.Fprintf(&data, "{\"q\": \"question about %d\", \"a\": \"answer to %d\"}\n", i, i)
	}
	for name, text := range map[string]string{
		"remote.yaml": fmt.Sprintf(config, place), "local.yaml": fmt.Sprintf(config, "local"), "train.jsonl": data.String(),
		"bad.yaml": fmt.Sprintf(config, "s3://bucket/x?region=y"), "gs.yaml": fmt.Sprintf(config, "gs://bucket/x"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	run(1, "inspect", place)
	run(1, "inspect", "remote.yaml")
	out, _ := run(0, "plan", "remote.yaml")
	says(out, place)
	run(0, "fill", "remote.yaml")
	run(0, "fill", "remote.yaml", "--no-encode")
	run(0, "fill", "local.yaml")
	same(t, place, filepath.Join(dir, "local"))
	out, _ = run(0, "inspect", place)
	says(out, place)
	run(0, "inspect", "remote.yaml")
	run(0, "verify", place)
	run(0, "diff", place, "local")
	run(0, "export", place, "--split", "train", "-o", "out.jsonl")
	run(0, "run", "remote.yaml")

	_, stderr := run(3, "plan", "bad.yaml")
	says(stderr, "want s3://bucket/prefix")
	_, stderr = run(3, "plan", "gs.yaml")
	says(stderr, "it has folders and s3://")
	_, stderr = run(1, "inspect", "s3://no-such-bucket/x")
	says(stderr, "the bucket does not exist")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, stderr = run(1, "plan", "remote.yaml")
	says(stderr, "SignatureDoesNotMatch")
}
