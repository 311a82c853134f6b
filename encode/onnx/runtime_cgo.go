//go:build cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// library is the shared library of ONNX Runtime that this process has loaded.
type library struct{ file, version string }

// loaded is the one library of the process. It stays loaded to the end: there
// is no safe moment to unload it.
var loaded struct {
	sync.Mutex
	library *library
}

// load returns the library of an option, which it loads at the first call. A
// process has one: another file is an error.
func load(option string) (*library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.library != nil && option == "" {
		return loaded.library, nil
	}
	file, err := newFinder().find(option)
	if err != nil {
		return nil, err
	}
	if file, err = filepath.EvalSymlinks(file); err != nil {
		return nil, err
	}
	if loaded.library != nil {
		if loaded.library.file != file {
			return nil, fmt.Errorf("this process works with the ONNX Runtime library %s already and cannot load %s beside it", loaded.library.file, file)
		}
		return loaded.library, nil
	}
	ort.SetSharedLibraryPath(file)
	// What goes wrong comes back as an error, so the library need not print it.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		if strings.Contains(err.Error(), "ORT API base") { // it has not the version of the interface that was asked for
			err = errors.New("it is too old")
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrNoLibrary, file, err)
	}
	if err := ort.DisableTelemetry(); err != nil {
		return nil, err
	}
	loaded.library = &library{file, ort.GetVersion()}
	return loaded.library, nil
}

// open opens a session for a model.
func (*library) open(s *setup, o Options) (session, error) {
	options, err := sessionOptions(o)
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	var names []string
	for _, in := range s.inputs {
		names = append(names, in.name)
	}
	opened := &ortSession{}
	if opened.session, err = ort.NewDynamicAdvancedSession(s.graphFile, names, []string{s.output.name}, options); err != nil {
		return nil, err
	}
	if opened.runs, err = ort.NewRunOptions(); err != nil {
		return nil, errors.Join(err, opened.session.Destroy())
	}
	return opened, nil
}

func sessionOptions(o Options) (*ort.SessionOptions, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	for _, set := range []func() error{
		func() error { return options.SetIntraOpNumThreads(o.threads()) },
		func() error { return options.SetInterOpNumThreads(1) },
		func() error { return options.SetExecutionMode(ort.ExecutionModeSequential) },
		// Plans of memory are kept for each shape, and texts have many.
		func() error { return options.SetMemPattern(false) },
		func() error { return options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0") },
		func() error { return useGPU(o, options) },
	} {
		if err := set(); err != nil {
			return nil, errors.Join(err, options.Destroy())
		}
	}
	return options, nil
}

// useGPU gives the graph to CUDA if the options say so.
func useGPU(o Options, options *ort.SessionOptions) error {
	if !o.gpu() {
		return nil
	}
	cuda, err := ort.NewCUDAProviderOptions()
	if err == nil {
		defer cuda.Destroy()
		err = cuda.Update(map[string]string{"device_id": "0"})
	}
	if err == nil {
		err = options.AppendExecutionProviderCUDA(cuda)
	}
	if err != nil {
		return fmt.Errorf("device gpu: this ONNX Runtime cannot use CUDA (`pip install onnxruntime-gpu` brings one that can): %w", err)
	}
	return nil
}

// ortSession implements session.
type ortSession struct {
	session *ort.DynamicAdvancedSession
	runs    *ort.RunOptions
}

// values lends tensors to the library; free ends that.
func values(tensors []tensor, pin *runtime.Pinner) (values []ort.Value, free func(), err error) {
	free = func() {
		for _, v := range values {
			v.Destroy()
		}
	}
	for _, t := range tensors {
		// The library holds the address between its calls.
		pin.Pin(unsafe.SliceData(t.data))
		v, err := ort.NewCustomDataTensor(t.shape, t.data, ort.TensorElementDataType(t.elem))
		if err != nil {
			free()
			return nil, nil, err
		}
		values = append(values, v)
	}
	return values, free, nil
}

func (s *ortSession) run(inputs []tensor, out tensor) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	in, free, err := values(inputs, &pin)
	if err != nil {
		return err
	}
	defer free()
	room, free, err := values([]tensor{out}, &pin)
	if err != nil {
		return err
	}
	defer free()
	return s.session.RunWithOptions(in, room, s.runs)
}

func (s *ortSession) shape(inputs []tensor) ([]int64, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	in, free, err := values(inputs, &pin)
	if err != nil {
		return nil, err
	}
	defer free()
	out := []ort.Value{nil}
	if err := s.session.RunWithOptions(in, out, s.runs); err != nil {
		return nil, err
	}
	return out[0].GetShape(), out[0].Destroy()
}

func (s *ortSession) watch(ctx context.Context) (stop func()) {
	ended := make(chan struct{})
	stopWatching := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.runs.Terminate()
	})
	return func() {
		if !stopWatching() {
			<-ended
			s.runs.UnsetTerminate()
		}
	}
}

func (s *ortSession) close() error {
	return errors.Join(s.runs.Destroy(), s.session.Destroy())
}
