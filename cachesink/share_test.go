//go:build unix

package cachesink

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestManyProcesses fills one directory by 8 processes, of which some are
// killed, and some are stopped for longer than others wait for them: together
// they encode each object once, but for what was lost with a takeover.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		job           job
		kill, suspend int
	}{
		"undisturbed":    {job{Workers: 2}, 0, 0},
		"killed":         {job{Workers: 2}, 3, 0},
		"stopped":        {job{Workers: 1, Padded: true}, 0, 3},
		"both":           {job{Workers: 2, Prepares: true}, 2, 2},
		"without leases": {job{Workers: 2, Alone: true}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			j := tc.job
			j.Dir, j.Log, j.Pause, j.TTL = t.TempDir(), filepath.Join(t.TempDir(), "log"), 25*time.Millisecond, 600*time.Millisecond
			want := j.undisturbed(t)
			var all []*exec.Cmd
			for range 8 {
				all = append(all, j.start(t))
			}
			for end := time.Now().Add(10 * time.Second); logged(t, j.Log, "encoded") < jobObjects/4 && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond)
			}
			for _, cmd := range all[:tc.kill] {
				_ = cmd.Process.Kill()
			}
			for _, cmd := range all[tc.kill : tc.kill+tc.suspend] {
				_ = cmd.Process.Signal(syscall.SIGSTOP)
			}
			if tc.suspend > 0 {
				time.Sleep(2 * j.TTL)
			}
			for _, cmd := range all[tc.kill : tc.kill+tc.suspend] {
				_ = cmd.Process.Signal(syscall.SIGCONT)
			}
			for i, cmd := range all {
				if err := cmd.Wait(); err != nil && i >= tc.kill {
					t.Errorf("process %d: %v", i, err)
				}
			}
			encoded, took := logged(t, j.Log, "encoded"), logged(t, j.Log, "took")
			if most := jobObjects + took*j.Workers*jobBatch; !j.Alone && encoded > most {
				t.Errorf("encoded %d of %d objects with %d takeovers, at most %d should be", encoded, jobObjects, took, most)
			}
			j.settled(t, want)
			t.Logf("encoded %d of %d objects, %d takeovers", encoded, jobObjects, took)
		})
	}
}
