package cachesink

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// leaseTTL is how long a session may be silent before others take its work
// over. Tests shorten it.
var leaseTTL = 30 * time.Second

const (
	leasesDir = "leases/"
	// A session has two files: one that says whose it is, and one that grows
	// from its first beat on.
	sessionSuffix = ".json"
	beatSuffix    = ".beat"
	leaseFormat   = 1
	// maxLease bounds what is read of a lease.
	maxLease = 64 << 10
	// longSilence is after what time a session of another machine, whose
	// clock may be wrong, is thought dead by who cannot watch it.
	longSilence = time.Hour
	// unwritten is how long a claim may not say whose it is, which is written
	// right after it was made.
	unwritten = 2 * time.Second
	// maxTakeovers bounds the search for the newest claim of a shard.
	maxTakeovers = 1 << 16
)

// leases share the shards among the fills that run at once. They only save
// double work: whatever they say, a fill stays correct, and none of their
// own failures is one of the fill's.
type leases interface {
	// claim asks for a shard, by [shardPlan.task], whose file is to have that
	// name. Where another fill has it, held is false and other the name that
	// its file will have. took says that it was taken from a fill that died.
	claim(ctx context.Context, task, name string) (held, took bool, other string)
	// lost says that another fill took over a shard that this one held.
	lost(ctx context.Context, task string) bool
	// close gives everything back.
	close()
}

// noLeases are for a place that nobody shares.
type noLeases struct{}

func (noLeases) claim(context.Context, string, string) (held, took bool, other string) {
	return true, false, ""
}

func (noLeases) lost(context.Context, string) bool { return false }

func (noLeases) close() {}

// sessionHead is a session's file.
type sessionHead struct {
	Format   int      `json:"format"`
	Owner    owner    `json:"owner"`
	Encoders []string `json:"encoders"` // folders that the fill uses
}

// session is a fill as others see it: a file that says whose it is, and one
// that grows by a byte every third of leaseTTL. A claim is a file leases/<task>.<k> with its nonce; the one
// of the highest k counts. Whoever finds the session of that one dead makes
// the next, so that two can never take over at once.
type session struct {
	st    store.Store
	nonce string
	ttl   time.Duration
	quit  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	beats  store.Appender // nil before the first beat
	held   map[string]int // claims by task, with their k
	gone   map[string]bool
	beaten time.Time // when others last saw a sign of life
	seen   map[string]sighting
}

// sighting is what was seen of another session, and since when.
type sighting struct {
	size  int64
	since time.Time
}

// running are the nonces of this process's sessions. One that it could not
// take back has ended all the same.
var running sync.Map

// ended says that the process or the fill of a session is known to be no more.
func (h sessionHead) ended(nonce string) bool {
	if h.Owner.Machine != "" && h.Owner == self() {
		_, ok := running.Load(nonce)
		return !ok
	}
	return h.Owner.ended()
}

// newSession returns the leases of a fill that uses some encoders' folders:
// none where they cannot be written.
func newSession(ctx context.Context, st store.Store, encoders []string) leases {
	s := &session{
		st: st, nonce: rand.Text(), ttl: leaseTTL, held: map[string]int{}, gone: map[string]bool{}, seen: map[string]sighting{},
		quit: make(chan struct{}), done: make(chan struct{}), beaten: time.Now(),
	}
	head, err := json.Marshal(sessionHead{leaseFormat, self(), encoders})
	if err != nil {
		return noLeases{}
	}
	running.Store(s.nonce, true)
	s.sweep(ctx)
	if err := store.Put(ctx, st, leasesDir+s.nonce+sessionSuffix, append(head, '\n'), false); err != nil {
		s.end()
		return noLeases{}
	}
	go s.live()
	return s
}

// live beats until close.
func (s *session) live() {
	defer close(s.done)
	t := time.NewTicker(s.ttl / 3)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-t.C:
			s.mu.Lock()
			s.beat(context.Background())
			s.mu.Unlock()
		}
	}
}

// late says that the session may have been taken for dead.
func (s *session) late() bool { return time.Since(s.beaten) > s.ttl*2/3 }

// beat shows a sign of life. If it comes late, others may have taken over.
func (s *session) beat(ctx context.Context) {
	late := s.late()
	err := s.grow(ctx)
	s.beaten = time.Now()
	if !late && err == nil {
		return
	}
	for task, k := range s.held {
		_, taken := s.st.Stat(ctx, claimName(task, k+1))
		nonce, _, err := readClaim(ctx, s.st, claimName(task, k))
		// Who took over may have come to its end since, and have tidied up.
		if taken == nil || errors.Is(err, fs.ErrNotExist) || err == nil && nonce != s.nonce {
			delete(s.held, task)
			s.gone[task] = true
		}
	}
}

// grow adds a byte to the file of beats.
func (s *session) grow(ctx context.Context) (err error) {
	if s.beats == nil {
		s.beats, err = s.st.Append(ctx, leasesDir+s.nonce+beatSuffix)
		if err != nil {
			s.beats = nil // an interface that holds nothing
			return err
		}
	}
	_, err = s.beats.Write([]byte{'.'})
	return err
}

func claimName(task string, k int) string { return fmt.Sprintf("%s%s.%d", leasesDir, task, k) }

// claim implements leases.
func (s *session) claim(ctx context.Context, task, name string) (held, took bool, other string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[task]; ok {
		return true, false, ""
	}
	for k, tries := 0, 0; tries < maxTakeovers; k, tries = k+1, tries+1 {
		err := s.make(ctx, task, name, k)
		if err == nil {
			s.held[task] = k
			delete(s.gone, task)
			return true, k > 0, ""
		}
		if !errors.Is(err, fs.ErrExist) {
			return true, false, "" // nobody can make claims here
		}
		if _, err := s.st.Stat(ctx, claimName(task, k+1)); err == nil {
			continue
		}
		nonce, other, err := readClaim(ctx, s.st, claimName(task, k))
		if errors.Is(err, fs.ErrNotExist) {
			k = -1 // it was given back
			continue
		}
		if !s.dead(ctx, nonce, claimName(task, k)) {
			return false, false, other
		}
	}
	return true, false, ""
}

// make makes a claim, or fails with fs.ErrExist.
func (s *session) make(ctx context.Context, task, name string, k int) error {
	f, err := s.st.Append(ctx, claimName(task, k))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\n%s\n", s.nonce, name)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.st.Remove(ctx, claimName(task, k)) // others would wait for who made it
	}
	return err
}

// readClaim returns the session that made a claim, empty if that is not
// written yet, and the name of the shard's file.
func readClaim(ctx context.Context, st store.Store, file string) (nonce, name string, err error) {
	b, err := readLease(ctx, st, file)
	if lines := strings.Split(string(b), "\n"); len(lines) == 3 {
		nonce, name = lines[0], lines[1]
	}
	return nonce, name, err
}

// readLease reads the beginning of a file.
func readLease(ctx context.Context, st store.Store, file string) ([]byte, error) {
	r, err := st.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, min(r.Size(), maxLease))
	n, err := r.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// readSession returns what a session's file says of itself.
func readSession(ctx context.Context, st store.Store, nonce string) (head sessionHead, err error) {
	b, err := readLease(ctx, st, leasesDir+nonce+sessionSuffix)
	if err != nil {
		return head, err
	}
	return head, json.Unmarshal(b, &head)
}

// dead says that a session has ended without giving back its claim: its
// process is gone, or it was silent while this one watched it for leaseTTL.
// Where a claim does not name its session yet, the claim itself is watched.
func (s *session) dead(ctx context.Context, nonce, claim string) bool {
	watched := claim
	switch {
	case nonce == s.nonce:
		return true // a claim that was lost, of which nobody took care
	case nonce != "":
		head, err := readSession(ctx, s.st, nonce)
		if errors.Is(err, fs.ErrNotExist) || err == nil && head.ended(nonce) {
			return true
		}
		watched = leasesDir + nonce + beatSuffix
	default:
		if all, err := readLeases(ctx, s.st); err == nil && s.alone(all) {
			return true // its process was killed in between
		}
	}
	var size int64
	if info, err := s.st.Stat(ctx, watched); err == nil {
		size = info.Size
	}
	last, ok := s.seen[watched]
	if !ok || last.size != size {
		s.seen[watched] = sighting{size, time.Now()}
		return false
	}
	ttl := s.ttl
	if nonce == "" {
		ttl = min(ttl, unwritten)
	}
	return time.Since(last.since) >= ttl
}

// alone says that no other session may be alive.
func (s *session) alone(all *allLeases) bool {
	for nonce, other := range all.sessions {
		if other.live && nonce != s.nonce {
			return false
		}
	}
	return true
}

// lost implements leases.
func (s *session) lost(ctx context.Context, task string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late() {
		s.beat(ctx)
	}
	return s.gone[task]
}

// close implements leases.
func (s *session) close() {
	close(s.quit)
	<-s.done
	ctx := context.Background() // also where the fill was cancelled
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late() {
		s.beat(ctx)
	}
	for task, k := range s.held {
		for i := range k + 1 { // those that were taken over, too
			_ = s.st.Remove(ctx, claimName(task, i))
		}
	}
	s.end()
	s.sweep(ctx)
}

// end removes the session's own files.
func (s *session) end() {
	if s.beats != nil {
		_ = s.beats.Close()
	}
	dropSession(context.Background(), s.st, s.nonce)
	running.Delete(s.nonce)
}

func dropSession(ctx context.Context, st store.Store, nonce string) {
	for _, suffix := range []string{beatSuffix, sessionSuffix} {
		_ = st.Remove(ctx, leasesDir+nonce+suffix)
	}
}

// sweep removes what dead sessions have left, unless another one lives: that
// is to learn of a claim that it takes over.
func (s *session) sweep(ctx context.Context) {
	all, err := readLeases(ctx, s.st)
	if err != nil || !s.alone(all) {
		return
	}
	for task, c := range all.claims {
		for k := range c.k + 1 {
			_ = s.st.Remove(ctx, claimName(task, k))
		}
	}
	for nonce := range all.sessions {
		dropSession(ctx, s.st, nonce)
	}
}
