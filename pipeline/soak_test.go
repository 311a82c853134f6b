package pipeline_test

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/pipeline"
)

// soakEnv is how many epochs TestManyEpochs has; with it, the test expects to
// be alone in its process.
const soakEnv = "PERMAFROST_SOAK"

// footprint is what a process has taken of its machine.
type footprint struct {
	Descriptors, Goroutines, Mappings int
	Heap, Anonymous, Allocator        int // bytes
}

func measure(t *testing.T, mem *memory.CheckedAllocator) (f footprint) {
	t.Helper()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	f = footprint{Goroutines: runtime.NumGoroutine(), Heap: int(stats.HeapAlloc), Allocator: mem.CurrentAlloc()}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	f.Descriptors = len(open)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	f.Mappings = bytes.Count(maps, []byte("\n"))
	status, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if n, err := fmt.Sscanf(lines.Text(), "RssAnon: %d kB", &f.Anonymous); n == 1 && err == nil {
			f.Anonymous <<= 10
		}
	}
	return f
}

// TestManyEpochs: epochs, whole and broken off, of pipelines that stay and of
// ones that come and go, with batches that are retained for a while, leave
// nothing behind.
func TestManyEpochs(t *testing.T) {
	soak, _ := strconv.Atoi(os.Getenv(soakEnv))
	epochs := cmp.Or(soak, 200)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	base := config(t, dir)
	base.Train.BatchSize = 2
	base.Allocator = mem
	opened := func(access cachesink.Access) *pipeline.Pipeline[row] {
		cfg, cache := base, *base.Cache
		cfg.Cache, cache.Access = &cache, access
		p, err := pipeline.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	closed := func(p *pipeline.Pipeline[row]) {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	mapped, copied := opened(cachesink.AccessMapped), opened(cachesink.AccessCopy)
	defer closed(mapped)
	defer closed(copied)
	var kept []*pipeline.Batch
	pass := func(p *pipeline.Pipeline[row], epoch int) {
		n := 0
		for b, err := range p.Epoch(t.Context(), "train", epoch) {
			if err != nil {
				t.Fatal(err)
			}
			if b.A("enc") == nil || b.B("enc") == nil {
				t.Fatal("no embeddings")
			}
			if n++; n%5 == 0 {
				b.Retain()
				kept = append(kept, b)
			}
			if len(kept) > 7 {
				kept[0].Release()
				kept = kept[1:]
			}
			if n > epoch%7 && epoch%2 == 0 {
				break
			}
		}
	}
	var first footprint
	for epoch := range epochs {
		pass(mapped, epoch)
		pass(copied, epoch)
		if epoch%10 == 0 {
			for _, access := range []cachesink.Access{cachesink.AccessMapped, cachesink.AccessCopy} {
				p := opened(access)
				pass(p, epoch)
				closed(p)
			}
		}
		if epoch == epochs/10 {
			first = measure(t, mem)
		}
	}
	last := measure(t, mem)
	for _, b := range kept {
		b.Release()
	}
	t.Logf("after %d epochs %+v, after %d %+v", epochs/10, first, epochs, last)
	if more := last.Allocator - first.Allocator; more > 64<<10 {
		t.Errorf("%d more bytes are allocated", more)
	}
	if more := last.Descriptors - first.Descriptors; more > 4 { // other tests run beside it
		t.Errorf("%d more descriptors are open", more)
	}
	if soak == 0 {
		return
	}
	if more := last.Goroutines - first.Goroutines; more > 0 || last.Descriptors > first.Descriptors {
		t.Errorf("%d more goroutines, %d more descriptors", more, last.Descriptors-first.Descriptors)
	}
	if more := last.Mappings - first.Mappings; more > 8 { // the runtime's own
		t.Errorf("%d more mappings", more)
	}
	if heap, anonymous := last.Heap-first.Heap, last.Anonymous-first.Anonymous; heap > 1<<20 || anonymous > 8<<20 {
		t.Errorf("%d more bytes on the heap, %d in all", heap, anonymous)
	}
}
