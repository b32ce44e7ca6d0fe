# Finds nvcc and enables the CUDA language; included by the top CMakeLists.txt, because every folder that links the
# kernels needs the language, and only when METST_CUDA is on, because most machines have no nvcc.
#
#   CMAKE_CUDA_COMPILER        nvcc; otherwise CUDACXX, CUDA_PATH, the PATH and the usual folders are searched
#   CMAKE_CUDA_ARCHITECTURES   targets; Orin (87), H100 and H200 (90) and Thor (110, which needs CUDA 13) when not set
if(NOT CMAKE_CUDA_COMPILER)
  file(GLOB metst_toolkits LIST_DIRECTORIES true /usr/local/cuda /usr/local/cuda-* /opt/cuda)
  list(SORT metst_toolkits COMPARE NATURAL ORDER DESCENDING)
  list(TRANSFORM metst_toolkits APPEND /bin)
  find_program(METST_NVCC NAMES "$ENV{CUDACXX}" nvcc
               HINTS "$ENV{CUDA_PATH}/bin" "$ENV{CUDA_HOME}/bin" PATHS ${metst_toolkits})
  if(NOT METST_NVCC)
    message(FATAL_ERROR "METST_CUDA=ON, but nvcc was not found: looked at CUDACXX, in CUDA_PATH/bin, CUDA_HOME/bin, "
                        "the PATH, /usr/local/cuda*/bin and /opt/cuda/bin. Install the CUDA toolkit (JetPack has it), "
                        "or set -DCMAKE_CUDA_COMPILER=/path/to/nvcc, or leave METST_CUDA off.")
  endif()
  set(CMAKE_CUDA_COMPILER ${METST_NVCC})
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  if(DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
  else()
    set(CMAKE_CUDA_ARCHITECTURES 87 90)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE metst_nvcc_version)
    if(metst_nvcc_version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 13.0)
      list(APPEND CMAKE_CUDA_ARCHITECTURES 110)
    endif()
  endif()
endif()

# CMake would find out by itself, and say so in a page of compiler output.
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE metst_known ERROR_QUIET)
string(REGEX MATCHALL "[0-9]+" metst_known "${metst_known}")
foreach(metst_target IN LISTS CMAKE_CUDA_ARCHITECTURES)
  string(REGEX MATCH "^[0-9]+" metst_target "${metst_target}")  # of 90a and 87-real, too
  if(metst_known AND metst_target AND NOT metst_target IN_LIST metst_known)
    list(JOIN metst_known ", " metst_known)
    message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} does not compile for sm_${metst_target}, only for ${metst_known}. "
                        "Thor (110) needs CUDA 13: set -DCMAKE_CUDA_COMPILER=/path/to/nvcc of another CUDA, or "
                        "-DCMAKE_CUDA_ARCHITECTURES for the GPU of this machine.")
  endif()
endforeach()

enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
