package cachesink

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/permafrost-ml/permafrost/encode"
)

// killedEnv makes the test program fill a directory instead of testing.
const killedEnv = "CACHESINK_TEST_FILL"

func killSetup(encoded *atomic.Int64, pause time.Duration) setup {
	return setup{
		splits: map[string][]encode.Sample{"train": groups("a", 60, 60), "val": pairs("b", 20)},
		models: map[string]hashModel{"e": {dim: 8, seed: "e", encoded: encoded, fail: func(int64) error {
			time.Sleep(pause)
			return nil
		}}},
	}
}

func fillToBeKilled(dir string) {
	s := killSetup(new(atomic.Int64), 2*time.Millisecond)
	if _, _, err := s.run(context.Background(), Dir(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestKilled ends the process of a fill with SIGKILL at many moments, over
// and over in one place, until a fill comes to its end. At any time the cache
// is empty or complete; at the end its bytes are those of a fill that nobody
// killed.
func TestKilled(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	s := killSetup(new(atomic.Int64), 0)
	mustRun(t, s, quickDir(whole))
	want := files(t, whole)
	dir := t.TempDir()
	kills := 0
	for wait := 10 * time.Millisecond; ; wait += 6 * time.Millisecond {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		c, e := Open(t.Context(), Dir(dir), nil)
		if e != nil {
			t.Fatal(e)
		}
		if c.Manifest().Generation > 0 {
			checkContent(t, c, s)
			break
		}
		if err == nil {
			t.Fatal("the fill ended, and nothing is there")
		}
		kills++
	}
	var encoded atomic.Int64
	mustRun(t, killSetup(&encoded, 0), quickDir(dir))
	if encoded.Load() != 0 {
		t.Errorf("encoded %d again", encoded.Load())
	}
	got := files(t, dir)
	for name := range got {
		if strings.HasPrefix(name, "tmp/") {
			delete(got, name) // what the killed ones left
		}
	}
	got[manifestCopy] = want[manifestCopy] // may be missing
	sameFiles(t, "after the kills", got, want)
	t.Logf("killed %d times", kills)
}
