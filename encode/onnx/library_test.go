package onnx

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindLibrary looks in a file system of the test's own.
func TestFindLibrary(t *testing.T) {
	root := t.TempDir()
	path := func(p string) string { return filepath.Join(root, filepath.FromSlash(p)) }
	capi := "/onnxruntime/capi/"
	for _, file := range []string{
		"said/libonnxruntime.so.1.25.0", "said/libonnxruntime_providers_shared.so", "empty/libother.so",
		"ld/libonnxruntime.so.1.9.0", "ld/libonnxruntime.so.1.24.0", "ld/libonnxruntime.so.1.10.0",
		"venv/lib/python3.12/site-packages" + capi + "libonnxruntime.so.1.31.1",
		"conda/lib/python3.9/site-packages" + capi + "libonnxruntime.so.1.24.1",
		"usr/bin/python3.11", "usr/lib/python3/dist-packages" + capi + "libonnxruntime.so.1.26.0",
		"home/.local/lib/python3.9/site-packages" + capi + "libonnxruntime.so.1.27.0",
		"home/.local/lib/python3.13/site-packages" + capi + "libonnxruntime.so.1.28.0",
		"mac/lib/python3.13/site-packages" + capi + "libonnxruntime.1.28.0.dylib",
		"win/python.exe", "win/Lib/site-packages" + capi + "onnxruntime.dll",
		"[odd]/libonnxruntime.so",
	} {
		if err := os.MkdirAll(filepath.Dir(path(file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		goos   string
		option string
		env    map[string]string
		home   string
		python string
		want   string
	}{
		"option file":       {"linux", "said/libonnxruntime.so.1.25.0", map[string]string{LibraryVariable: "ld"}, "", "", "said/libonnxruntime.so.1.25.0"},
		"option folder":     {"linux", "said", nil, "", "", "said/libonnxruntime.so.1.25.0"},
		"odd folder":        {"linux", "[odd]", nil, "", "", "[odd]/libonnxruntime.so"},
		"variable":          {"linux", "", map[string]string{LibraryVariable: "said", "LD_LIBRARY_PATH": "ld"}, "", "", "said/libonnxruntime.so.1.25.0"},
		"newest":            {"linux", "", map[string]string{"LD_LIBRARY_PATH": "empty:ld", "VIRTUAL_ENV": "venv"}, "", "", "ld/libonnxruntime.so.1.24.0"},
		"environment":       {"linux", "", map[string]string{"VIRTUAL_ENV": "venv", "CONDA_PREFIX": "conda"}, "home", "", "venv/lib/python3.12/site-packages" + capi + "libonnxruntime.so.1.31.1"},
		"conda":             {"linux", "", map[string]string{"CONDA_PREFIX": "conda"}, "home", "", "conda/lib/python3.9/site-packages" + capi + "libonnxruntime.so.1.24.1"},
		"python on PATH":    {"linux", "", nil, "home", "usr/bin/python3.11", "usr/lib/python3/dist-packages" + capi + "libonnxruntime.so.1.26.0"},
		"user":              {"linux", "", nil, "home", "", "home/.local/lib/python3.13/site-packages" + capi + "libonnxruntime.so.1.28.0"},
		"mac":               {"darwin", "", map[string]string{"VIRTUAL_ENV": "mac"}, "", "", "mac/lib/python3.13/site-packages" + capi + "libonnxruntime.1.28.0.dylib"},
		"windows":           {"windows", "", nil, "", "win/python.exe", "win/Lib/site-packages" + capi + "onnxruntime.dll"},
		"nothing":           {"linux", "", nil, "", "", ""},
		"option not there":  {"linux", "no/libonnxruntime.so", map[string]string{"LD_LIBRARY_PATH": "ld"}, "", "", ""},
		"folder without":    {"linux", "empty", map[string]string{"LD_LIBRARY_PATH": "ld"}, "", "", ""},
		"variable is wrong": {"linux", "", map[string]string{LibraryVariable: "no", "LD_LIBRARY_PATH": "ld"}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{}
			for k, v := range tc.env {
				var dirs []string
				for _, dir := range strings.Split(v, ":") {
					dirs = append(dirs, path(dir))
				}
				env[k] = strings.Join(dirs, string(filepath.ListSeparator))
			}
			f := finder{goos: tc.goos, goarch: "amd64", env: func(k string) string { return env[k] }, look: func(string) (string, error) {
				if tc.python == "" {
					return "", exec.ErrNotFound
				}
				return path(tc.python), nil
			}}
			if tc.home != "" {
				f.home = path(tc.home)
			}
			if tc.option != "" {
				tc.option = path(tc.option)
			}
			got, err := f.find(tc.option)
			if tc.want == "" {
				if got != "" && !strings.HasPrefix(got, root) {
					t.Skipf("this machine has %s", got)
				}
				if !errors.Is(err, ErrNoLibrary) {
					t.Fatalf("%q, %v, want ErrNoLibrary", got, err)
				}
				return
			}
			if err != nil && tc.want != "" || got != path(tc.want) {
				if !strings.HasPrefix(got, root) && err == nil {
					t.Skipf("this machine has %s", got)
				}
				t.Errorf("%q, %v, want %q", got, err, path(tc.want))
			}
		})
	}
	_, err := finder{goos: "linux", goarch: "amd64", env: func(string) string { return "" }, look: exec.LookPath}.find("")
	if err != nil && (!strings.Contains(err.Error(), "pip install onnxruntime") || !strings.Contains(err.Error(), LibraryVariable)) {
		t.Errorf("the message does not say how to get it: %v", err)
	}
}
