/* The part of the TVM FFI and DLPack binary interface that compiled PrimFuncs use.
 *
 * Layouts as in tvm/ffi/c_api.h of apache-tvm-ffi 0.1.14 and dlpack 1.x; tests compare them with the wheel's headers.
 */
#ifndef CROSSFARM_TVM_ABI_H
#define CROSSFARM_TVM_ABI_H

#include <stdint.h>

typedef struct {
  int32_t device_type; /* 1: CPU */
  int32_t device_id;
} crossfarm_dl_device;

typedef struct {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} crossfarm_dl_type;

typedef struct {
  void *data;
  crossfarm_dl_device device;
  int32_t ndim;
  crossfarm_dl_type dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
} crossfarm_dl_tensor;

#define CROSSFARM_FFI_DLTENSOR_PTR 7 /* kTVMFFIDLTensorPtr */

typedef struct {
  int32_t type_index;
  uint32_t zero_padding;
  union {
    int64_t v_int64;
    double v_float64;
    void *v_ptr;
  };
} crossfarm_ffi_any;

/* A PrimFunc in the object file: `__tvm_ffi_NAME`. Returns 0, or -1 with the error raised through the FFI. */
typedef int (*crossfarm_packed_function)(void *self, const crossfarm_ffi_any *arguments, int32_t count,
                                         crossfarm_ffi_any *result);

#endif
