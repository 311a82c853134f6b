package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// LibraryVariable names the environment variable that says where the shared
// library of ONNX Runtime is: the file, or the folder it lies in.
const LibraryVariable = "PERMAFROST_ONNXRUNTIME"

// ErrNoLibrary is returned when the shared library of ONNX Runtime is not
// found, or cannot be used.
var ErrNoLibrary = errors.New("no usable ONNX Runtime library (1.24 or later)")

// ErrNoCgo is returned by models in a program that was built without cgo
// (CGO_ENABLED=0), as one for another platform is by default: it cannot load
// ONNX Runtime.
var ErrNoCgo = errors.New("this program was built without cgo, which ONNX Runtime needs: build it with CGO_ENABLED=1 and a C compiler")

// howTo ends messages about a missing library.
const howTo = "`pip install onnxruntime` brings one that is found in an active virtual environment, or set the option library or the variable " + LibraryVariable + " to its file"

// finder looks for the library; tests give it another world.
type finder struct {
	goos, goarch string
	env          func(string) string
	home         string
	look         func(string) (string, error) // exec.LookPath
}

func newFinder() finder {
	home, _ := os.UserHomeDir()
	return finder{runtime.GOOS, runtime.GOARCH, os.Getenv, home, exec.LookPath}
}

// find returns the library's file: that of the option, that of the variable,
// or the first in the usual places. What is said must be there.
func (f finder) find(option string) (string, error) {
	for _, said := range []struct{ what, path string }{{"the option library", option}, {LibraryVariable, f.env(LibraryVariable)}} {
		if said.path == "" {
			continue
		}
		info, err := os.Stat(said.path)
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrNoLibrary, said.what, err)
		}
		if !info.IsDir() {
			return filepath.Abs(said.path)
		}
		if file := f.in(said.path); file != "" {
			return filepath.Abs(file)
		}
		return "", fmt.Errorf("%w: %s: there is no %s in %s", ErrNoLibrary, said.what, f.pattern(), said.path)
	}
	for _, dir := range append(f.folders(), f.packages()...) {
		if file := f.in(dir); file != "" {
			return filepath.Abs(file)
		}
	}
	return "", fmt.Errorf("%w: not in the usual folders, nor with python3: %s", ErrNoLibrary, howTo)
}

func (f finder) pattern() string {
	switch f.goos {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime*.dylib"
	}
	return "libonnxruntime.so*"
}

// in returns the library in a folder, that of the highest version.
func (f finder) in(dir string) string {
	files, _ := filepath.Glob(filepath.Join(escape(dir), f.pattern()))
	files = slices.DeleteFunc(files, func(file string) bool { return strings.Contains(filepath.Base(file), "providers") })
	if len(files) == 0 {
		return ""
	}
	return slices.MaxFunc(files, func(a, b string) int {
		return cmp.Or(slices.Compare(numbers(filepath.Base(a)), numbers(filepath.Base(b))), strings.Compare(a, b))
	})
}

// escape makes a path a pattern that matches it alone.
func escape(path string) string {
	if runtime.GOOS == "windows" {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, `[`, `\[`, `*`, `\*`, `?`, `\?`).Replace(path)
}

// numbers are the numbers in a name, in order.
func numbers(name string) (out []int) {
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(part)
		out = append(out, n)
	}
	return out
}

// folders are where libraries are installed.
func (f finder) folders() (dirs []string) {
	switch f.goos {
	case "windows":
		return nil // the system's own onnxruntime.dll is an old one
	case "darwin":
		dirs = append(filepath.SplitList(f.env("DYLD_LIBRARY_PATH")), "/opt/homebrew/lib", "/usr/local/lib")
	default:
		triple := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[f.goarch] + "-linux-gnu"
		dirs = append(filepath.SplitList(f.env("LD_LIBRARY_PATH")), "/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/"+triple, "/opt/onnxruntime/lib")
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return dir == "" })
}

// packages are the folders of a Python package onnxruntime: those of the
// active environment, of the python3 on PATH and of the user. Python itself
// is not started.
func (f finder) packages() (dirs []string) {
	prefixes := []string{f.env("VIRTUAL_ENV"), f.env("CONDA_PREFIX")}
	for _, name := range []string{"python3", "python"} {
		if exe, err := f.look(name); err == nil {
			prefixes = append(prefixes, filepath.Dir(filepath.Dir(exe)), filepath.Dir(exe))
			if real, err := filepath.EvalSymlinks(exe); err == nil {
				prefixes = append(prefixes, filepath.Dir(filepath.Dir(real)))
			}
		}
	}
	if f.home != "" {
		prefixes = append(prefixes, filepath.Join(f.home, ".local"))
	}
	for _, prefix := range prefixes {
		if prefix == "" {
			continue
		}
		for _, layout := range []string{"lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages", "Lib/site-packages"} {
			found, _ := filepath.Glob(filepath.Join(escape(prefix), filepath.FromSlash(layout), "onnxruntime", "capi"))
			slices.SortFunc(found, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) })
			dirs = append(dirs, found...)
		}
	}
	return dirs
}
