/* Which kernels are used: those of the core that is compiled for, or portable C. */
#ifndef ZOB_CORE_H
#define ZOB_CORE_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define ZOB_MVE 1 /* zob_mve.c, zob_thumb2.S, zob_count_thumb2.S */
#elif defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__)
#define ZOB_THUMB2 1 /* zob_thumb2.S, zob_count_thumb2.S */
#elif defined(__ARM_ARCH_6M__)
#define ZOB_THUMB1 1 /* zob_thumb1.S */
#endif

#endif
