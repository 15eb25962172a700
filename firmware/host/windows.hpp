// What the windows of convolutions and pools read: tables for the kernels.
#pragma once

#include "place.hpp"
#include "program.hpp"

namespace zob {

// In how many ways windows lie over the border.
size_t window_kinds(const zob_model &m, const zob_op &o);

// Taps of a convolution over few channels are packed, several to a word: bits a tap, or 32.
uint32_t slot_of(const zob_model &m, const zob_op &o);

// The chains (tile.h) that the words of taps make, where that pays: a tap's words, or 0.
uint32_t chains_of(const zob_op &o, uint32_t slot, uint32_t words);

// Where links lie: in the tensor, and gathered.
void link_taps(uint32_t chains, WindowTables &t);

// How the input channels of a convolution's filters lie.
zob_read read_of(const zob_model &m, const zob_op &o);

// Where each output pixel's window begins, and how it lies over the border; class 0 is wholly inside.
WindowTables cover_windows(const zob_model &m, const zob_op &o, const Place &from);

// The same, with the words or floats of every tap: `terms` of them, 4 bytes each.
WindowTables read_taps(const zob_model &m, const zob_op &o, const Place &from, uint32_t terms);

// Where each filter's group of input channels begins, `terms` words or floats a group.
void read_groups(const zob_model &m, const zob_op &o, uint32_t terms, WindowTables &t);

}  // namespace zob
