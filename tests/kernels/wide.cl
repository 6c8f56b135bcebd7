// Built with: -DLANES=64 -mwavefrontsize64
// Targets: gfx1030 gfx1100 gfx1201
// Kernels of other files once more, by waves of 64 lanes where the target has a choice.
#include "flow.cl"
#include "lanes.cl"
#include "shared.cl"
