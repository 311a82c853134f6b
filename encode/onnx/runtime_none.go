//go:build !cgo

package onnx

type library struct{ version string }

func load(string) (*library, error) { return nil, ErrNoCgo }

func (*library) open(*setup, Options) (session, error) { return nil, ErrNoCgo }
