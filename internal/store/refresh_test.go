package store

import (
	"context"
	"errors"
	"testing"
)

// copied is a store that reads wrong bytes until it is told so.
type copied struct {
	*Mem
	wrong int
}

type copiedReader struct {
	Reader
	c *copied
}

func (c *copied) Open(ctx context.Context, name string) (Reader, error) {
	r, err := c.Mem.Open(ctx, name)
	return copiedReader{r, c}, err
}

func (r copiedReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(b, off)
	if r.c.wrong > 0 {
		b[0] ^= 1
	}
	return n, err
}

func (r copiedReader) Refresh(int64, int64) { r.c.wrong-- }

func TestWrongCopiesAreReplacedOnce(t *testing.T) {
	errWrong := errors.New("wrong")
	check := func(b []byte) error {
		if string(b) != "abc" {
			return errWrong
		}
		return nil
	}
	c := &copied{Mem: NewMem()}
	if err := Put(t.Context(), c, "x", []byte("abc"), false); err != nil {
		t.Fatal(err)
	}
	for wrong, want := range []error{nil, nil, errWrong} {
		c.wrong = wrong
		b, err := ReadFunc(t.Context(), c, "x", 10, check)
		if !errors.Is(err, want) || (b != nil) != (want == nil) {
			t.Errorf("wrong %d times: %q, %v", wrong, b, err)
		}
	}
}
