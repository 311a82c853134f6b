package models

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/strictjson"
)

// ManifestName is the manifest's name in a model's folder.
const ManifestName = "permafrost-model.json"

const (
	formatVersion = 1
	manifestLimit = 16 << 20
	maxFiles      = 10_000 // of a model
)

// Manifest says what a stored model is. It holds no time and no path of the
// machine.
type Manifest struct {
	FormatVersion int    `json:"format_version"`
	Name          string `json:"name"`
	Source        Source `json:"source"`
	// License is the licence that the model card names, "" if it names none.
	License string `json:"license"`
	// Digest is the SHA-256, in hexadecimal, of the names and hashes of all
	// files: equal digests are equal models.
	Digest string `json:"digest"`
	// Files are sorted by path.
	Files []File `json:"files"`
}

// File is a file of a model.
type File struct {
	Path   string `json:"path"` // in the model's folder, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// The kinds of sources.
const (
	FromHub    = "hub"
	FromFolder = "directory"
	FromZip    = "zip"
	FromWheel  = "wheel"
)

// Source is where a model is from.
type Source struct {
	Kind string `json:"kind"` // hub, directory, zip or wheel
	// Of a hub: the repository, the revision that was asked for, the commit
	// that it was then, and the hub's address.
	Repo     string `json:"repo,omitempty"`
	Revision string `json:"revision,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	// Of the others: the name, without its folder, and the model's folder in
	// it, "" for the top.
	File string `json:"file,omitempty"`
	Path string `json:"path,omitempty"`
}

// String is the source for people.
func (s Source) String() string {
	if s.Kind == FromHub {
		return s.Repo + "@" + cmp.Or(s.Commit[:min(12, len(s.Commit))], s.Revision)
	}
	if s.Path != "" {
		return s.File + ":" + s.Path
	}
	return s.File
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// file returns the file of a path.
func (m *Manifest) file(path string) (File, bool) {
	i, ok := slices.BinarySearchFunc(m.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !ok {
		return File{}, false
	}
	return m.Files[i], true
}

// digest hashes sorted files.
func digest(files []File) string {
	h := sha256.New()
	fmt.Fprint(h, "permafrost.model.v1\n")
	for _, f := range files {
		fmt.Fprintf(h, "%d:%s %d %s\n", len(f.Path), f.Path, f.Size, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// seal sorts the files and sets what follows from them.
func (m *Manifest) seal() {
	m.FormatVersion = formatVersion
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	m.Digest = digest(m.Files)
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(m)
	return b.Bytes(), err
}

// parseManifest reads a manifest and checks all that can be checked without
// the files.
func parseManifest(data []byte) (*Manifest, error) {
	var version struct {
		FormatVersion int `json:"format_version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.FormatVersion != formatVersion {
		return nil, fmt.Errorf("format version %d, want %d", version.FormatVersion, formatVersion)
	}
	m, err := strictjson.Decode[Manifest](data)
	if err != nil {
		return nil, err
	}
	if err := checkName(m.Name); err != nil {
		return nil, err
	}
	if len(m.Files) > maxFiles {
		return nil, fmt.Errorf("%d files, at most %d", len(m.Files), maxFiles)
	}
	for i, f := range m.Files {
		if err := checkPath(f.Path); err != nil {
			return nil, err
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return nil, fmt.Errorf("%q is out of order", f.Path)
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || f.Size < 0 {
			return nil, fmt.Errorf("%q has a bad size or hash", f.Path)
		}
	}
	if m.Digest != digest(m.Files) {
		return nil, errors.New("the digest is not that of the files")
	}
	return &m, nil
}

// checkPath keeps the paths of files inside the model's folder, on every
// system, and off names that are the store's.
func checkPath(path string) error {
	bad := !fs.ValidPath(path) || path == "." || len(path) > 1024 || path == ManifestName || strings.ContainsAny(path, `\:*?"<>|`)
	for i := range len(path) {
		bad = bad || path[i] < ' ' || path[i] == 0x7f
	}
	if bad {
		return fmt.Errorf("%q cannot be a file of a model", path)
	}
	return nil
}
