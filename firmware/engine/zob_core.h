/* Which kernels are used: those of the core that is compiled for, or portable C; and of those, in a firmware with one
 * network, only what its plan needs. */
#ifndef ZOB_CORE_H
#define ZOB_CORE_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define ZOB_MVE 1 /* zob_mve.c, zob_thumb2.S, zob_count_thumb2.S */
#if __ARM_FEATURE_MVE & 2
#define ZOB_MVE_FP 1 /* zob_fp.S */
#endif
#elif defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__)
#define ZOB_THUMB2 1 /* zob_thumb2.S, zob_count_thumb2.S */
#elif defined(__ARM_ARCH_6M__)
#define ZOB_THUMB1 1 /* zob_thumb1.S */
#endif

#if defined(ZOB_THUMB2) && !defined(__ARM_FP)
#define ZOB_SOFT 1 /* zob_soft_thumb2.S */
#endif

/* Bit n of ZOB_OPS stands for opcode n, the bits of ZOB_KERNELS are ZOB_KERNEL_... (zob_format.h). What is not defined is
 * left out, and zob_load refuses plans that need it; without definitions nothing is. */
#ifndef ZOB_OPS
#define ZOB_OPS 0xFFFFFFFFu
#define ZOB_KERNELS 0xFFFFFFFFu
#endif
#ifndef ZOB_SMALL
#define ZOB_SMALL 0 /* 1: of two ways to compute the same, the one with less code */
#endif
#define ZOB_HAS(opcode) ((ZOB_OPS >> (opcode)) & 1u)
#define ZOB_HAS_KERNEL(kernel) ((ZOB_KERNELS & (kernel)) != 0u)

#endif
