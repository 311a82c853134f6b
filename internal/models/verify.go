package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Damage is a file of a model that is not as it was written.
type Damage struct {
	Path string
	Err  error
}

// Verify reads all files of a model and returns those that are damaged or
// missing, and the files in its folder that are not the model's. onRead, if
// set, is called with the number of bytes read since the last call.
func Verify(ctx context.Context, m *Model, onRead func(int64)) (damaged []Damage, extra []string, err error) {
	damaged = verifyFiles(ctx, m, onRead)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	extra, err = extraFiles(&m.Manifest, m.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("verify %s: %w", m.Name, err)
	}
	return damaged, extra, nil
}

func verifyFiles(ctx context.Context, m *Model, onRead func(int64)) (damaged []Damage) {
	if onRead == nil {
		onRead = func(int64) {}
	}
	for _, f := range m.Files {
		if err := verifyFile(ctx, filepath.Join(m.Dir, filepath.FromSlash(f.Path)), f, onRead); err != nil {
			damaged = append(damaged, Damage{f.Path, err})
		}
	}
	return damaged
}

func verifyFile(ctx context.Context, at string, want File, onRead func(int64)) (err error) {
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("missing")
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Size() != want.Size:
		return fmt.Errorf("%d bytes, want %d", info.Size(), want.Size)
	}
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, &counted{ctx: ctx, r: f, add: onRead}, make([]byte, 256<<10)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("its SHA-256 is %s, want %s", got, want.SHA256)
	}
	return nil
}
