/* Compiles only when the runner's view of TVM's interface is the one of TVM's own headers. */
#include <stddef.h>
#include <tvm/ffi/c_api.h>
#include <tvm/runtime/c_backend_api.h>

/* Declares functions of TVM's again, and would not compile if it disagreed. */
#include "runtime.h"

#define SAME_SIZE(ours, theirs) _Static_assert(sizeof(ours) == sizeof(theirs), #ours)
#define SAME_PLACE(ours, our_field, theirs, their_field)                                                       \
  _Static_assert(offsetof(ours, our_field) == offsetof(theirs, their_field) &&                                 \
                     sizeof(((ours *)0)->our_field) == sizeof(((theirs *)0)->their_field),                     \
                 #ours "." #our_field)
#define SAME_FUNCTION(ours, theirs) _Static_assert(__builtin_types_compatible_p(ours, theirs), #ours)

SAME_SIZE(crossfarm_dl_tensor, DLTensor);
SAME_PLACE(crossfarm_dl_tensor, data, DLTensor, data);
SAME_PLACE(crossfarm_dl_tensor, device, DLTensor, device);
SAME_PLACE(crossfarm_dl_tensor, ndim, DLTensor, ndim);
SAME_PLACE(crossfarm_dl_tensor, dtype, DLTensor, dtype);
SAME_PLACE(crossfarm_dl_tensor, shape, DLTensor, shape);
SAME_PLACE(crossfarm_dl_tensor, strides, DLTensor, strides);
SAME_PLACE(crossfarm_dl_tensor, byte_offset, DLTensor, byte_offset);
SAME_SIZE(crossfarm_dl_type, DLDataType);
SAME_PLACE(crossfarm_dl_type, code, DLDataType, code);
SAME_PLACE(crossfarm_dl_type, bits, DLDataType, bits);
SAME_PLACE(crossfarm_dl_type, lanes, DLDataType, lanes);
SAME_SIZE(crossfarm_ffi_any, TVMFFIAny);
SAME_PLACE(crossfarm_ffi_any, type_index, TVMFFIAny, type_index);
SAME_PLACE(crossfarm_ffi_any, zero_padding, TVMFFIAny, zero_padding);
SAME_PLACE(crossfarm_ffi_any, v_ptr, TVMFFIAny, v_ptr);
SAME_PLACE(crossfarm_ffi_any, v_int64, TVMFFIAny, v_int64);
SAME_SIZE(crossfarm_parallel_group, TVMParallelGroupEnv);
SAME_PLACE(crossfarm_parallel_group, sync_handle, TVMParallelGroupEnv, sync_handle);
SAME_PLACE(crossfarm_parallel_group, num_task, TVMParallelGroupEnv, num_task);

_Static_assert(CROSSFARM_FFI_DLTENSOR_PTR == kTVMFFIDLTensorPtr, "type index of a tensor");
_Static_assert(kDLCPU == 1 && kDLInt == 0 && kDLUInt == 1 && kDLFloat == 2 && kDLBool == 6, "codes of DLPack");

SAME_FUNCTION(__typeof__(TVMBackendAllocWorkspace), __typeof__(*__TVMBackendAllocWorkspace));
SAME_FUNCTION(__typeof__(TVMBackendFreeWorkspace), __typeof__(*__TVMBackendFreeWorkspace));
/* Pointers to structs of two names are never compatible, so these are compared with the struct's name exchanged. */
typedef int (*our_task)(int task, TVMParallelGroupEnv *group, void *data);
SAME_FUNCTION(our_task, FTVMParallelLambda);
SAME_FUNCTION(__typeof__(TVMBackendParallelLaunch), int(our_task, void *, int));
SAME_FUNCTION(__typeof__(TVMBackendParallelBarrier), int(int, TVMParallelGroupEnv *));
