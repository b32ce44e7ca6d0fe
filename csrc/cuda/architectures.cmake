# Chooses CMAKE_CUDA_ARCHITECTURES where nobody has: the GPU's of this machine where there is one, else all that the
# kernels are meant for and that CMAKE_CUDA_COMPILER knows. Compiling for all of them takes minutes; a GPU that is not
# among them can only have its code made when the library is loaded, out of that for an older one.
set(metst_meant 80 86 87 89 90 110 120)  # A100; RTX 30; Orin; RTX 40; H100, H200; Thor; RTX 50

execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE metst_known ERROR_QUIET)
string(REGEX MATCHALL "[0-9]+" metst_known "${metst_known}")

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # nvcc asks the driver; without a GPU it warns and takes its oldest target.
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} -arch=native --dryrun -x cu -c /dev/null
                  OUTPUT_VARIABLE metst_native ERROR_VARIABLE metst_native RESULT_VARIABLE metst_status)
  set(metst_found "")
  if(metst_status EQUAL 0 AND NOT metst_native MATCHES "Cannot find valid GPU")
    string(REGEX MATCHALL "ptxas [^\n]*-arch=sm_[0-9]+" metst_found "${metst_native}")
    list(TRANSFORM metst_found REPLACE ".*sm_" "")
    list(REMOVE_DUPLICATES metst_found)
  endif()
  if(metst_found)
    set(CMAKE_CUDA_ARCHITECTURES ${metst_found})
  else()
    set(CMAKE_CUDA_ARCHITECTURES "")
    foreach(metst_target IN LISTS metst_meant)
      if(NOT metst_known OR metst_target IN_LIST metst_known)
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${metst_target})
      endif()
    endforeach()
  endif()
endif()

# CMake would find out by itself, and say so in a page of compiler output.
foreach(metst_target IN LISTS CMAKE_CUDA_ARCHITECTURES)
  string(REGEX MATCH "^[0-9]+" metst_target "${metst_target}")  # of 90a and 87-real, too
  if(metst_known AND metst_target AND NOT metst_target IN_LIST metst_known)
    list(JOIN metst_known ", " metst_known)
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} does not compile for sm_${metst_target}, only for ${metst_known}. "
                        "Thor (110) needs CUDA 13: set -DCMAKE_CUDA_COMPILER=/path/to/nvcc of another CUDA, or "
                        "-DCMAKE_CUDA_ARCHITECTURES for the GPU of this machine.")
  endif()
endforeach()
list(JOIN CMAKE_CUDA_ARCHITECTURES ", " metst_targets)
message(STATUS "CUDA kernels are compiled for sm_${metst_targets}")
