// Package encodetest checks that an encoder keeps the contract of package
// encode. One call in the encoder's own tests is all:
//
//	func TestContract(t *testing.T) {
//		encodetest.Run(t, mymodel.New("weights.bin"), encodetest.Options{})
//	}
//
// Run it with -race too: several instances encode at the same time. Outside of
// a test, such as for a plug-in's self test, [Check] returns what is broken.
package encodetest
