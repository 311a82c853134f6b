//go:build !cgo

package onnx

import (
	"errors"
	"testing"
)

const cgoOn = false

func TestWithoutCgo(t *testing.T) {
	m := Model("testdata/tiny")
	if _, err := m.Spec(t.Context()); !errors.Is(err, ErrNoCgo) {
		t.Errorf("Spec gives %v, want ErrNoCgo", err)
	}
	if _, err := m.Open(t.Context(), 0); !errors.Is(err, ErrNoCgo) {
		t.Errorf("Open gives %v, want ErrNoCgo", err)
	}
}
