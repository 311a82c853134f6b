package s3

import (
	"bytes"
	"context"
	"sync"

	"github.com/permafrost-ml/permafrost/internal/store"
)

// Append implements [store.Store]. Parts of shards grow in the local folder;
// others are small, and put anew as a whole at each write.
func (s *Store) Append(ctx context.Context, name string) (store.Appender, error) {
	if isLocal(name) {
		return s.local.Append(ctx, name)
	}
	if err := s.put(ctx, "append", name, emptyFile{}, 0, false); err != nil {
		return nil, err
	}
	return &appender{s: s, name: name}, nil
}

type appender struct {
	s    *Store
	name string
	mu   sync.Mutex
	data []byte
}

// Write implements io.Writer. It has no context, and ends with the time of a
// request.
func (a *appender) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	data := append(bytes.Clone(a.data), b...)
	err := a.s.put(context.Background(), "append", a.name, bytes.NewReader(data), int64(len(data)), true)
	if err != nil {
		return 0, err
	}
	a.data = data
	return len(b), nil
}

func (a *appender) Sync() error  { return nil }
func (a *appender) Close() error { return nil }
