/* SPDX-License-Identifier: GPL-2.0 */
/* Nobody sets a parameter here */
#define module_param_named(name, value, type, perm)
#define MODULE_PARM_DESC(name, text)
