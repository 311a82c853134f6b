package report

// Data is all that a page shows. Fields are added to its JSON form, never
// changed.
type Data struct {
	SchemaVersion int       `json:"schema_version"` // 1
	Train         Train     `json:"train"`
	Epochs        []Epoch   `json:"epochs"`
	Eval          *Eval     `json:"eval,omitempty"`
	Times         Times     `json:"times"`
	Examples      []Example `json:"examples,omitempty"`
	Encoders      []Encoder `json:"encoders"`
	Cache         Cache     `json:"cache"`
}

// Module is a head, a loss or an optimizer: its type and its options.
type Module struct {
	Type   string         `json:"type"`
	Params map[string]any `json:"params,omitempty"`
}

// Train says what was trained.
type Train struct {
	Split     string `json:"split"`
	Rows      int64  `json:"rows"`
	BatchSize int    `json:"batch_size"`
	Seed      uint64 `json:"seed"`
	Head      Module `json:"head"`
	Loss      Module `json:"loss"`
	Optimizer Module `json:"optimizer"`
	In        int    `json:"in"`  // values of an embedding before the head
	Out       int    `json:"out"` // and after it
}

// Epoch is one pass over the training split. Its JSON names are those of the
// epochs in metrics.jsonl.
type Epoch struct {
	Epoch   int     `json:"epoch"` // from 0
	Loss    float64 `json:"loss"`  // mean over its samples
	LR      float64 `json:"lr"`    // learning rate of its last step, 0 where unknown
	Seconds float64 `json:"epoch_seconds"`
	// Validation are the values measured after the epoch, by name; those of
	// metrics are of the split Eval.
	Validation map[string]float64 `json:"validation,omitempty"`
	// Best says that the epoch was the best so far, by what the training
	// monitors.
	Best bool `json:"best,omitempty"`
}

// Eval holds the metrics of a split before and after training, by name.
type Eval struct {
	Split    string             `json:"split"`
	Objects  int                `json:"objects"`
	Queries  int                `json:"queries"`
	Repeats  int                `json:"repeats,omitempty"` // of samples, 0 where all was measured
	Baseline map[string]float64 `json:"baseline"`
	Tuned    map[string]float64 `json:"tuned"`
	// The standard deviations over samples.
	BaselineDeviation map[string]float64 `json:"baseline_deviation,omitempty"`
	TunedDeviation    map[string]float64 `json:"tuned_deviation,omitempty"`
}

// Times compare training from the cache with encoding in every epoch.
type Times struct {
	FillSeconds       float64 `json:"fill_seconds"`
	Rows              int64   `json:"rows"`    // samples of all splits
	Objects           int64   `json:"objects"` // distinct ones, over all cached encoders
	Encoded           int64   `json:"encoded"` // of them, by this run
	Reused            int64   `json:"reused"`
	FirstEpochSeconds float64 `json:"first_epoch_seconds"`
	EpochSeconds      float64 `json:"epoch_seconds"` // median
	TrainSeconds      float64 `json:"train_seconds"` // of all epochs
	SamplesPerSecond  float64 `json:"samples_per_second"`
	// EncodedPerSecond is the rate of this run's fill, 0 where it encoded too
	// little to tell.
	EncodedPerSecond float64 `json:"encoded_per_second"`
	// EpochObjects is what an epoch without the cache would encode: every
	// object of every row, for each cached encoder.
	EpochObjects int64 `json:"epoch_objects"`
}

// UncachedEpochSeconds is an estimate of what an epoch without the cache takes:
// the measured epoch and EpochObjects at the measured rate. It is 0 where no
// rate was measured.
func (t Times) UncachedEpochSeconds() float64 {
	if t.EncodedPerSecond <= 0 {
		return 0
	}
	return t.EpochSeconds + float64(t.EpochObjects)/t.EncodedPerSecond
}

// Example is an object with its nearest neighbors before and after training.
type Example struct {
	Text   string `json:"text"`
	Before []Hit  `json:"before"`
	After  []Hit  `json:"after"`
}

// Hit is a neighbor, the nearest first.
type Hit struct {
	Text       string  `json:"text"`
	Similarity float64 `json:"similarity"` // cosine
	Relevant   bool    `json:"relevant"`
}

// Encoder describes a frozen encoder.
type Encoder struct {
	Name        string            `json:"name"`
	Engine      string            `json:"engine"`
	Dim         int               `json:"dim"`
	CacheType   string            `json:"cache_type"`
	DType       string            `json:"dtype,omitempty"` // where it is cached
	Objects     int64             `json:"objects"`
	Reads       string            `json:"reads"`
	Trained     *Module           `json:"trained,omitempty"` // the encoder that was trained on it, if one was
	Fingerprint string            `json:"fingerprint"`
	Fields      map[string]string `json:"fields"` // behind the fingerprint
}

// Cache describes the cache.
type Cache struct {
	Dir        string `json:"dir"`
	Bytes      int64  `json:"bytes"`
	Generation int64  `json:"generation"`
}
