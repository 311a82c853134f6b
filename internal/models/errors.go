package models

import "errors"

var (
	// ErrName is returned for a name that no model can have.
	ErrName = errors.New("not a model's name")
	// ErrNotFound is returned where no model of a name is stored, and no
	// folder of a path is there.
	ErrNotFound = errors.New("no such model")
	// ErrAmbiguous is returned where a short name, or a source, means more
	// than one model.
	ErrAmbiguous = errors.New("more than one model")
	// ErrExists is returned instead of replacing a model by another one.
	ErrExists = errors.New("another model has this name")
	// ErrCorrupt is returned for a stored model whose manifest or files are
	// not as they were written.
	ErrCorrupt = errors.New("the model is damaged")
	// ErrLocked is returned while another process changes the same model.
	ErrLocked = errors.New("another process is changing this model")
	// ErrNoModel is returned for a source that holds no model, or none whose
	// weights can be used.
	ErrNoModel = errors.New("no usable model")
	// ErrSource is returned for an archive or a folder that cannot be read, or
	// whose content must not be written.
	ErrSource = errors.New("bad source")
	// ErrChecksum is returned for bytes that are not those that their source
	// promises.
	ErrChecksum = errors.New("wrong content")
	// ErrAccess is returned where the hub wants a token, or another one.
	ErrAccess = errors.New("access denied")
	// ErrHub is returned for what the hub does not have, and for answers of
	// it that cannot be used.
	ErrHub = errors.New("the hub")
)
