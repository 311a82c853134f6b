package cachesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// inUse is what fills that run now may still need.
type inUse struct {
	shards   map[string]bool // ids of shards that they have claimed
	encoders map[string]bool // folders that they use
	any      bool            // a fill runs: temporary files may be its
}

// liveFills finds out which fills run in a place, as far as their leases tell.
// A fill counts as running unless its process is known to be gone, or has
// been silent for longSilence; so does one that cannot be read.
func liveFills(ctx context.Context, st Storage) (*inUse, error) {
	all, err := readLeases(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("list the running fills of %s: %w", st, err)
	}
	u := &inUse{shards: map[string]bool{}, encoders: map[string]bool{}}
	for _, s := range all.sessions {
		if !s.live {
			continue
		}
		u.any = true
		for _, folder := range s.encoders {
			u.encoders[folder] = true
		}
	}
	for task, c := range all.claims {
		if all.live(c.nonce) {
			u.any, u.shards[task[strings.LastIndexByte(task, '-')+1:]] = true, true
		}
	}
	return u, nil
}

// allLeases are those that lie in a place.
type allLeases struct {
	sessions map[string]liveSession // by nonce
	claims   map[string]topClaim    // by task
}

type liveSession struct {
	encoders []string
	live     bool
}

// topClaim is the claim of a shard that counts.
type topClaim struct {
	nonce  string // empty if it is not written yet
	k      int
	silent bool
}

// live says whether a session may be running. A claim that names none was
// made a moment ago.
func (a *allLeases) live(nonce string) bool { return nonce == "" || a.sessions[nonce].live }

func readLeases(ctx context.Context, st store.Store) (*allLeases, error) {
	list, err := st.List(ctx, leasesDir)
	if err != nil {
		return nil, err
	}
	all := &allLeases{sessions: map[string]liveSession{}, claims: map[string]topClaim{}}
	for _, info := range list {
		name := strings.TrimPrefix(info.Name, leasesDir)
		if nonce, ok := strings.CutSuffix(name, sessionSuffix); ok {
			all.see(ctx, st, nonce, info)
			continue
		}
		if strings.HasSuffix(name, beatSuffix) {
			continue
		}
		task, number, ok := strings.Cut(name, ".")
		k, err := strconv.Atoi(number)
		if !ok || err != nil || k < 0 || k > maxTakeovers {
			continue
		}
		if c, ok := all.claims[task]; !ok || c.k < k {
			all.claims[task] = topClaim{k: k, silent: silent(info)}
		}
	}
	for task, c := range all.claims {
		nonce, _, err := readClaim(ctx, st, claimName(task, c.k))
		if errors.Is(err, fs.ErrNotExist) || err == nil && nonce == "" && c.silent {
			delete(all.claims, task)
			continue
		}
		c.nonce = nonce
		all.claims[task] = c
		if _, ok := all.sessions[nonce]; !ok && nonce != "" { // the list may have missed it
			if info, err := st.Stat(ctx, leasesDir+nonce+sessionSuffix); err == nil {
				all.see(ctx, st, nonce, info)
			}
		}
	}
	return all, ctx.Err()
}

// see notes a session, unless it has ended since it was listed.
func (a *allLeases) see(ctx context.Context, st store.Store, nonce string, info store.Info) {
	head, err := readSession(ctx, st, nonce)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if beat, err := st.Stat(ctx, leasesDir+nonce+beatSuffix); err == nil {
		info = beat
	}
	a.sessions[nonce] = liveSession{head.Encoders, !head.ended(nonce) && (head.Owner.here() || !silent(info))}
}

func silent(info store.Info) bool {
	return !info.ModTime.IsZero() && time.Since(info.ModTime) > longSilence
}
